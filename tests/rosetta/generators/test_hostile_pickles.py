"""Hostile pickles run nothing: each attack works on Python's own unpickler and does nothing here."""

import contextlib
import copyreg
import io
import pickle
import sys

import pytest
from pickle_code import PERSISTENT, REBUILD, STORAGE, Call, Name, code, dump, line, network, read, stored, tensor

from interp_utils.rosetta import convert_nvidia_pickle, read_torch_file
from interp_utils.rosetta.generators.inert import Budget, Node, read_inert


def test_the_hand_made_format_is_the_real_one(tmp_path):
    found = read(dump({"G_ema": network({"w": tensor()}, {"a": network({"b": tensor(size=(2,), offset=1)})})}), tmp_path)
    assert found["G_ema"]["w"].tolist() == [1, 2, 3] and found["G_ema"]["a.b"].tolist() == [2, 3]
    values = [1, 300, -5, "text", b"bytes" * 99, None, True, {"a": (1,)}]
    assert pickle.loads(dump(values)) == values


# Each pushes the result of touching a file, by another instruction.
ATTACKS = {
    "reduce": lambda path: b"cposix\nsystem\n(" + line(f"touch {path}") + b"tR",
    "eval": lambda path: b"cbuiltins\neval\n(" + line(f"open('{path}', 'w')") + b"tR",
    "exec": lambda path: b"cbuiltins\nexec\n(" + line(f"open('{path}', 'w')") + b"tR",
    "stack global": lambda path: b"\x8c\x05posix\x8c\x06system\x93(" + line(f"touch {path}") + b"tR",
    "dotted through torch": lambda path: b"\x8c\x0dtorch.storage\x8c\x0ftorch.os.system\x93(" + line(f"touch {path}") + b"tR",
    "inst": lambda path: b"(" + line(f"touch {path}") + b"iposix\nsystem\n",
    "obj": lambda path: b"(cposix\nsystem\n" + line(f"touch {path}") + b"o",
    "extension": lambda path: b"\x82\xc8(" + line(f"touch {path}") + b"tR",
    "extension, four bytes": lambda path: b"\x84\xc8\x00\x00\x00(" + line(f"touch {path}") + b"tR",
    "open": lambda path: b"cio\nopen\n(" + line(str(path)) + line("w") + b"tR",
    "a class": lambda path: b"cio\nFileIO\n(" + line(str(path)) + line("w") + b"tR",
    "newobj": lambda path: b"ctest_attack\nTouching\n(" + line(str(path)) + b"t\x81",
    "newobj with keywords": lambda path: b"ctest_attack\nTouching\n(" + line(str(path)) + b"t}\x92",
    "setstate": lambda path: b"ctest_attack\nTouching\n)\x81(" + line(str(path)) + b"tb",
    "reconstructor": lambda path: b"ccopyreg\n_reconstructor\n(" + 2 * b"ctest_attack\nTouching\n" + line(str(path)) + b"tR",
    "newobj by copyreg": lambda path: b"ccopyreg\n__newobj__\n(ctest_attack\nTouching\n" + line(str(path)) + b"tR",
    "in place of a storage": lambda path: b"ctorch.storage\n_load_from_bytes\n(" + code(evil_storage(path, 3)) + b"tR",
    "before a storage": lambda path: b"ctorch.storage\n_load_from_bytes\n(" + code(evil_storage(path, 2)) + b"tR",
}  # fmt: skip


def evil_storage(path, k):
    """A stored storage is five pickles, for magic number, version, machine, storage and key; the k-th is replaced."""
    content, start = stored(), 0
    for _ in range(k):
        start = pickle_end(content, start)
    return content[:start] + b"\x80\x02cposix\nsystem\n(" + line(f"touch {path}") + b"tR." + content[pickle_end(content, start) :]


def pickle_end(content, start):
    file = io.BytesIO(content)
    file.seek(start)
    read_inert(file, Budget(len(content)))
    return file.tell()


@pytest.fixture
def targets(monkeypatch):
    """What the attacks aim at, in this process: an extension code, and a class that acts when it is made or given a state."""

    class Touching:
        def __new__(cls, path=None, *rest):
            path and open(path, "w").close()
            return object.__new__(cls)

        def __setstate__(self, state):
            open(state[0], "w").close()

    module = type(sys)("test_attack")
    module.Touching, Touching.__module__, Touching.__qualname__ = Touching, "test_attack", "Touching"
    monkeypatch.setitem(sys.modules, "test_attack", module)
    copyreg.add_extension("posix", "system", 200)
    yield
    copyreg.remove_extension("posix", "system", 200)


WRAPS = {
    "alone": lambda attack: b"\x80\x04" + attack + b".",
    "as a network": lambda attack: b"\x80\x04}" + line("G_ema") + attack + b"s.",
    "as a weight": lambda attack: dump({"G_ema": network({"w": Name("x y")})}).replace(b"cx\ny\n", attack),
    "as a part": lambda attack: dump({"G_ema": network({}, {"a": Name("x y")})}).replace(b"cx\ny\n", attack),
    "as a storage": lambda attack: dump({"G_ema": network({"w": Call(REBUILD, Name("x y"), 0, (3,), (1,))})}).replace(
        b"cx\ny\n", attack
    ),
    "as a size": lambda attack: dump({"G_ema": network({"w": tensor(size=Name("x y"))})}).replace(b"cx\ny\n", attack),
    "as the state": lambda attack: dump({"G_ema": Call(PERSISTENT, {"state": Name("x y")})}).replace(b"cx\ny\n", attack),
    "as a key": lambda attack: b"\x80\x04}" + attack + line("value") + b"s.",
    "as a persistent id": lambda attack: b"\x80\x04" + attack + b"Q.",
    "beside a network": lambda attack: dump({"D": Name("x y"), "G_ema": network({"w": tensor()})}).replace(b"cx\ny\n", attack),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks_run_nothing_wherever_they_stand(attack, targets, tmp_path):
    canary = tmp_path / "canary"
    payload = ATTACKS[attack](canary)
    with contextlib.suppress(Exception):
        pickle.loads(b"\x80\x04" + payload + b".")
    assert canary.exists()  # Python's own unpickler falls for it
    canary.unlink()
    for wrap, around in WRAPS.items():
        content = around(payload)
        assert payload in content
        if wrap == "beside a network":
            assert list(read(content, tmp_path)) == ["G_ema"]
        else:
            with pytest.raises(pickle.UnpicklingError, match="file.pkl cannot be read as one of NVIDIA"):
                read(content, tmp_path)
        with pytest.raises(pickle.UnpicklingError):
            read_torch_file(tmp_path / "file.pkl")
        if wrap != "beside a network":
            with pytest.raises(pickle.UnpicklingError):
                convert_nvidia_pickle(tmp_path / "file.pkl")
            assert {path.name for path in tmp_path.iterdir()} == {"file.pkl"}
    assert not canary.exists()


def test_nothing_is_imported(tmp_path):
    (tmp_path / "side_effect_module.py").write_text("raise SystemError('imported')")
    sys.path.insert(0, str(tmp_path))
    try:
        content = dump({"G_ema": network({"w": tensor()}), "D": Call("side_effect_module f", 1), "x": Name("side_effect_module g")})
        with pytest.raises(SystemError, match="imported"):
            pickle.loads(dump(Call("side_effect_module f", 1)))
        assert list(read(content, tmp_path)) == ["G_ema"] and "side_effect_module" not in sys.modules
    finally:
        sys.path.remove(str(tmp_path))


@pytest.mark.parametrize("target", [REBUILD, STORAGE, "collections OrderedDict", "torch.nn.parameter Parameter", "torch.nn Linear"])
def test_attributes_of_real_things_are_not_set(target, tmp_path):
    module, name = target.split(" ")
    __import__(module)
    thing = getattr(sys.modules[module], name)
    before = dict(vars(thing)) if hasattr(thing, "__dict__") else {}
    for state in ({"poison": 1}, (None, {"poison": 1, "__defaults__": (1,), "__setstate__": Name("posix system")})):
        content = dump({"x": Name(target), "G_ema": network({"w": tensor()})}).replace(
            code(Name(target)), code(Name(target)) + code(state) + b"b", 1
        )
        assert read(content, tmp_path)["G_ema"]["w"].tolist() == [1, 2, 3]
        assert not hasattr(thing, "poison") and dict(vars(thing)) == before
    function = sys.modules["torch._utils"]._rebuild_tensor_v2  # the attack is a real one
    pickle.loads(code(Name(REBUILD)) + code((None, {"poison": 1})) + b"b.")
    assert function.poison == 1
    del function.poison


def test_a_call_of_a_result_is_not_the_call_of_its_name():
    trick = code(Call(STORAGE, b"a")) + code((b"b",)) + b"R."
    node = read_inert(io.BytesIO(trick), Budget(len(trick)))
    assert isinstance(node, Node) and node.name == "<a call of Node>" and node.args == (b"b",)
