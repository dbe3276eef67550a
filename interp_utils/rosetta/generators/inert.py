"""Reading a pickle without running it.

A pickle is a program for a small stack machine. Python's own machine looks up names, calls them and sets attributes, so whoever
wrote a file can run code. The machine here has the same instructions, but where a pickle says "call this" or "set that" it only
writes down what was said: a `Node`. It imports nothing, calls nothing and touches no object except lists, dicts and sets that it
made itself. What a Node means is decided afterwards, by its reader. All of it happens within a `Budget`.
"""

import pickletools
import sys
from pickle import UnpicklingError
from typing import Any, BinaryIO

# Instructions that push their argument, or a constant.
ARGUMENTS = frozenset(
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE "
    "SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8".split()
)
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
EMPTY = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": set, "EMPTY_TUPLE": tuple}
IDLE = ("PROTO", "FRAME", "STOP")

# What the instructions of a pickle may need. Real files stay far below, bombs do not.
MOST_INSTRUCTIONS, MOST_MARKS, LONGEST_NAME = 1_000_000, 1_000, 1_000
MOST_BITS = 128  # of an integer; the longest in a real file is torch's magic number, of 77
ITEM, PAIR, NODE = 16, 100, 180  # bytes for an item of a list or of the stack, for a pair of a dict, and for a Node
CHEAP = """GET BINGET LONG_BINGET DUP NONE NEWTRUE NEWFALSE EMPTY_TUPLE MARK POP POP_MARK BUILD APPEND APPENDS ADDITEMS SETITEM
SETITEMS MEMOIZE PUT BINPUT LONG_BINPUT PROTO FRAME STOP BININT1"""
COSTS = dict.fromkeys(CHEAP.split(), ITEM) | dict.fromkeys(("EMPTY_SET", "FROZENSET"), 280)
COSTS |= dict.fromkeys(("GLOBAL", "STACK_GLOBAL", "INST", "PERSID", "BINPERSID"), NODE)
COST = 90  # of any other instruction


class Budget:
    """Bytes of memory, estimated, and instructions that reading a file of `size` bytes may cost, all its parts together."""

    def __init__(self, size: int):
        self.size, self.left = size, 2_400_000 + 5 * size
        self.instructions = min(50_000 + size // 4, MOST_INSTRUCTIONS)

    def spend(self, n: int) -> None:
        """Raises UnpicklingError where n bytes more are too many."""
        self.left -= n
        if self.left < 0:
            raise UnpicklingError(f"it would take far more memory than its {self.size} bytes")


class Node:
    """A name, or what a pickle wanted to call with it: `name(*args)`, then what it wanted to put into the result.

    args is None for a mere name. state: of the last BUILD; items and pairs: appended values, and keys with values.
    """

    __slots__ = ("name", "args", "state", "items", "pairs")

    def __init__(self, name: str, args: tuple | None = None):
        self.name, self.args, self.state, self.items, self.pairs = name, args, None, (), ()

    def __repr__(self) -> str:
        return self.name if self.args is None else f"{self.name}(...)"


class _Bounded:
    """A file that refuses to read what it does not have, before memory is set aside for it.

    It has no `tell`, or pickletools would ask at every instruction where it is.
    """

    def __init__(self, file: BinaryIO, size: int):
        self.file, self.size, self.readline = file, size, file.readline

    def read(self, n: int) -> bytes:
        if n > 1000 and n > self.size - self.file.tell():  # of few bytes it is seen afterwards that they are missing
            raise UnpicklingError(f"the file is cut off: byte {self.file.tell()} of {self.size} needs {n} more")
        return self.file.read(n)


def read_inert(file: BinaryIO, budget: Budget, persistent: list | None = None) -> Any:
    """The next pickle in a file, as plain Python values and `Node`s. Runs nothing from it.

    persistent: takes the persistent ids, in order. Raises UnpicklingError where the file is cut off, is not a pickle, or asks for
    more than the budget.
    """
    machine = _Machine(budget, [] if persistent is None else persistent)
    try:
        for instruction, argument, _ in pickletools.genops(_Bounded(file, budget.size)):
            machine.step(instruction.name, argument)
        return machine.stack.pop()
    except UnpicklingError:
        raise
    except Exception as error:
        raise UnpicklingError(f"not a pickle, or a damaged one, at byte {file.tell()}: {str(error)[:200]}") from error


def key(value: Any) -> Any:
    """A value to put into a dict or set: texts and small integers as they are, all else as a Node.

    Others can have equal hashes on purpose, or be tuples so deep that hashing them exhausts the stack.
    """
    if isinstance(value, str | Node) or type(value) is int and abs(value) < 2**31:
        return value
    return Node("<key>", (value,))


class _Machine:
    def __init__(self, budget: Budget, persistent: list):
        self.stack, self.below, self.memo, self.budget, self.persistent = [], [], [], budget, persistent

    def step(self, name: str, argument: Any) -> None:
        self.budget.instructions -= 1
        if self.budget.instructions < 0:
            raise UnpicklingError(f"it has far more instructions than a file of {self.budget.size} bytes needs")
        self.budget.spend(COSTS.get(name, COST))
        if name in ARGUMENTS:
            if isinstance(argument, int):
                if argument.bit_length() > MOST_BITS:
                    raise UnpicklingError(f"an integer of {argument.bit_length()} bits")
            elif not isinstance(argument, float):
                self.budget.spend(sys.getsizeof(argument))
            self._push(argument)
        elif name in CONSTANTS:
            self._push(CONSTANTS[name])
        elif name in EMPTY:
            self._push(EMPTY[name]())
        elif name not in IDLE:
            step = getattr(self, f"_{name.lower()}", None)
            if step is None:
                raise UnpicklingError(f"the instruction {name} has no place in a file of weights")
            step() if argument is None else step(argument)

    def _push(self, value: Any) -> None:
        self.stack.append(value)

    def _many(self) -> list:
        """What was pushed since the last mark."""
        found, self.stack = self.stack, self.below.pop()
        self.budget.spend(ITEM * len(found))
        return found

    def _last(self, n: int) -> list:
        if n > len(self.stack):
            raise IndexError("too few values on the stack")
        found = self.stack[len(self.stack) - n :]
        del self.stack[len(self.stack) - n :]
        return found

    def _mark(self) -> None:
        if len(self.below) == MOST_MARKS:
            raise UnpicklingError(f"nested more than {MOST_MARKS} deep")
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
        self.memo.append(self.stack[-1])

    def _put(self, index: int) -> None:
        missing = max(0, index + 1 - len(self.memo))
        self.budget.spend(ITEM * missing)
        self.memo += [None] * missing
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
        self._push(frozenset(self._keys(self._many())))

    def _tuple1(self) -> None:
        self._push(tuple(self._last(1)))

    def _tuple2(self) -> None:
        self._push(tuple(self._last(2)))

    def _tuple3(self) -> None:
        self._push(tuple(self._last(3)))

    def _dict(self) -> None:
        self._push(dict(self._pairs(self._many())))

    def _pairs(self, values: list) -> list[tuple[Any, Any]]:
        return list(zip(self._keys(values[::2]), values[1::2], strict=True))

    def _keys(self, values: list) -> list:
        found = []
        for value in values:
            found.append(key(value))
            self.budget.spend(PAIR if found[-1] is value else PAIR + NODE)
        return found

    def _append(self) -> None:
        self._extend(self._last(1))

    def _appends(self) -> None:
        self._extend(self._many())

    _additems = _appends

    def _extend(self, values: list) -> None:
        target = self.stack[-1]
        self.budget.spend(ITEM * len(values))
        if isinstance(target, set):
            target.update(self._keys(values))
        elif isinstance(target, Node):
            target.items = target.items or []
            target.items.extend(values)
        else:
            target.extend(values)

    def _setitem(self) -> None:
        self._assign(self._last(2))

    def _setitems(self) -> None:
        self._assign(self._many())

    def _assign(self, values: list) -> None:
        target, pairs = self.stack[-1], self._pairs(values)
        if isinstance(target, Node):
            target.pairs = target.pairs or []
            target.pairs.extend(pairs)
        elif isinstance(target, dict):
            target.update(pairs)
        else:
            raise TypeError(f"items set in a {type(target).__name__}")

    def _name(self, module: str, name: str) -> Node:
        if len(module) + len(name) > LONGEST_NAME:
            raise UnpicklingError(f"a name of {len(module) + len(name)} characters")
        return Node(f"{module}.{name}")

    def _global(self, names: str) -> None:
        self._push(self._name(*names.split(" ", 1)))

    def _stack_global(self) -> None:
        module, name = self._last(2)
        if not (isinstance(module, str) and isinstance(name, str)):
            raise TypeError("a global needs two names")
        self._push(self._name(module, name))

    def _call(self, function: Any, args: Any) -> None:
        """Write down a call; only of a name, so that a result called once more never looks like the name itself."""
        known = isinstance(function, Node) and function.args is None
        name = function.name if known else sys.intern(f"<a call of {type(function).__name__}>")
        self._push(Node(name, args if isinstance(args, tuple) else (args,)))

    def _reduce(self) -> None:
        self._call(*self._last(2))

    _newobj = _reduce

    def _newobj_ex(self) -> None:
        function, args, _ = self._last(3)
        self._call(function, args)

    def _inst(self, names: str) -> None:
        args = tuple(self._many())
        self._call(self._name(*names.split(" ", 1)), args)

    def _obj(self) -> None:
        function, *args = self._many()
        self._call(function, tuple(args))

    def _build(self) -> None:
        (state,) = self._last(1)
        if isinstance(self.stack[-1], Node):
            self.stack[-1].state = state  # attributes that a pickle sets on plain values mean nothing here

    def _persid(self, name: Any) -> None:
        self.persistent.append(name)
        self._push(Node("<persistent>", (name,)))

    def _binpersid(self) -> None:
        self._persid(self.stack.pop())

    def _ext1(self, code: int) -> None:
        self._push(Node(f"<extension {code}>"))

    _ext2 = _ext4 = _ext1
