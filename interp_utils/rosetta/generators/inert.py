"""Reading a pickle without running it.

A pickle is a program for a small stack machine. Python's own machine looks up names, calls them and sets attributes, so whoever
wrote a file can run code. The machine here has the same instructions, but where a pickle says "call this" or "set that" it only
writes down what was said: a `Node`. It imports nothing, calls nothing and touches no object except lists, dicts and sets that it
made itself. What a Node means is decided afterwards, by its reader.
"""

import pickletools
from pickle import UnpicklingError
from typing import Any, BinaryIO

# Instructions that push their argument, or a constant.
ARGUMENTS = frozenset(
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE "
    "SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8".split()
)
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
EMPTY = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": set, "EMPTY_TUPLE": tuple}


class Node:
    """A name, or what a pickle wanted to call with it: `name(*args)`, then what it wanted to put into the result.

    args is None for a mere name. state: of the last BUILD; items and pairs: appended values, and keys with values.
    """

    __slots__ = ("name", "args", "state", "items", "pairs")

    def __init__(self, name: str, args: tuple | None = None):
        self.name, self.args, self.state, self.items, self.pairs = name, args, None, [], []

    def __repr__(self) -> str:
        return self.name if self.args is None else f"{self.name}(...)"


class _Bounded:
    """A file that refuses to read what it does not have, before memory is set aside for it."""

    def __init__(self, file: BinaryIO, size: int):
        self.file, self.size, self.tell, self.readline = file, size, file.tell, file.readline

    def read(self, n: int) -> bytes:
        if n > self.size - self.tell():
            raise UnpicklingError(f"the file is cut off: byte {self.tell()} of {self.size} needs {n} more")
        return self.file.read(n)


def read_inert(file: BinaryIO, size: int) -> Any:
    """The next pickle in a file of `size` bytes, as plain Python values and `Node`s. Runs nothing from it.

    Raises UnpicklingError where it is cut off, or is not a pickle.
    """
    machine = _Machine()
    try:
        for instruction, argument, _ in pickletools.genops(_Bounded(file, size)):
            machine.step(instruction.name, argument)
        return machine.stack.pop()
    except UnpicklingError:
        raise
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, MemoryError) as error:
        raise UnpicklingError(f"not a pickle, or a damaged one: {error}") from error


def _key(value: Any) -> Any:
    """A value to put into a dict or set; a tuple goes in as a Node, since the hash of a deep one would exhaust the stack."""
    return Node("<key>", value) if isinstance(value, tuple | frozenset) else value


class _Machine:
    def __init__(self):
        self.stack, self.below, self.memo = [], [], {}

    def step(self, name: str, argument: Any) -> None:
        if name in ARGUMENTS:
            self._push(argument)
        elif name in CONSTANTS:
            self._push(CONSTANTS[name])
        elif name in EMPTY:
            self._push(EMPTY[name]())
        elif name not in ("PROTO", "FRAME", "STOP"):
            step = getattr(self, f"_{name.lower()}", None)
            if step is None:
                raise UnpicklingError(f"the instruction {name} has no place in a file of weights")
            step() if argument is None else step(argument)

    def _push(self, value: Any) -> None:
        self.stack.append(value)

    def _many(self) -> list:
        """What was pushed since the last mark."""
        found, self.stack = self.stack, self.below.pop()
        return found

    def _last(self, n: int) -> list:
        if n > len(self.stack):
            raise IndexError("too few values on the stack")
        found = self.stack[len(self.stack) - n :]
        del self.stack[len(self.stack) - n :]
        return found

    def _mark(self) -> None:
        self.below.append(self.stack)
        self.stack = []

    def _pop(self) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self._many()

    def _pop_mark(self) -> None:
        self._many()

    def _dup(self) -> None:
        self._push(self.stack[-1])

    def _memoize(self) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def _put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def _get(self, index: int) -> None:
        self._push(self.memo[index])

    _binput = _long_binput = _put
    _binget = _long_binget = _get

    def _list(self) -> None:
        self._push(list(self._many()))

    def _tuple(self) -> None:
        self._push(tuple(self._many()))

    def _frozenset(self) -> None:
        self._push(frozenset(map(_key, self._many())))

    def _tuple1(self) -> None:
        self._push(tuple(self._last(1)))

    def _tuple2(self) -> None:
        self._push(tuple(self._last(2)))

    def _tuple3(self) -> None:
        self._push(tuple(self._last(3)))

    def _dict(self) -> None:
        found = self._many()
        self._push(dict(zip(map(_key, found[::2]), found[1::2], strict=True)))

    def _append(self) -> None:
        self._extend(self._last(1))

    def _appends(self) -> None:
        self._extend(self._many())

    _additems = _appends

    def _extend(self, values: list) -> None:
        target = self.stack[-1]
        if isinstance(target, set):
            target.update(map(_key, values))
        else:
            (target.items if isinstance(target, Node) else target).extend(values)

    def _setitem(self) -> None:
        self._assign(self._last(2))

    def _setitems(self) -> None:
        self._assign(self._many())

    def _assign(self, values: list) -> None:
        target, pairs = self.stack[-1], list(zip(map(_key, values[::2]), values[1::2], strict=True))
        if isinstance(target, Node):
            target.pairs.extend(pairs)
        elif isinstance(target, dict):
            target.update(pairs)
        else:
            raise TypeError(f"items set in a {type(target).__name__}")

    def _global(self, names: str) -> None:
        self._push(Node(".".join(names.split(" "))))

    def _stack_global(self) -> None:
        module, name = self._last(2)
        if not (isinstance(module, str) and isinstance(name, str)):
            raise TypeError("a global needs two names")
        self._push(Node(f"{module}.{name}"))

    def _call(self, function: Any, args: Any) -> None:
        """Write down a call; only of a name, so that a result called once more never looks like the name itself."""
        known = isinstance(function, Node) and function.args is None
        name = function.name if known else f"<a call of {type(function).__name__}>"
        self._push(Node(name, args if isinstance(args, tuple) else (args,)))

    def _reduce(self) -> None:
        self._call(*self._last(2))

    _newobj = _reduce

    def _newobj_ex(self) -> None:
        function, args, _ = self._last(3)
        self._call(function, args)

    def _inst(self, names: str) -> None:
        args = tuple(self._many())
        self._call(Node(".".join(names.split(" "))), args)

    def _obj(self) -> None:
        function, *args = self._many()
        self._call(function, tuple(args))

    def _build(self) -> None:
        (state,) = self._last(1)
        if isinstance(self.stack[-1], Node):
            self.stack[-1].state = state  # attributes that a pickle sets on plain values mean nothing here

    def _persid(self, key: Any) -> None:
        self._push(Node("<persistent>", (key,)))

    def _binpersid(self) -> None:
        self._persid(self.stack.pop())

    def _ext1(self, code: int) -> None:
        self._push(Node(f"<extension {code}>"))

    _ext2 = _ext4 = _ext1
