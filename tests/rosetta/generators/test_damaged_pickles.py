"""Damaged pickles, and ones that announce more than they hold, end soon in a clear error."""

import io
import pickle
import random
import struct
from collections import OrderedDict

import numpy as np
import pytest
import torch
from pickle_code import PERSISTENT, Call, Name, code, dump, line, network, read, stored, tensor

from interp_utils.rosetta import read_nvidia_pickle, read_torch_file


def valid():
    return dump({"G_ema": network({"w": tensor()}, {"a": network({"b": tensor(size=(1, 2), stride=(2, 1))})})})


def test_every_truncated_file_is_refused(tmp_path):
    content = valid()
    assert set(read(content, tmp_path)["G_ema"]) == {"w", "a.b"}
    for end in range(len(content)):
        with pytest.raises(pickle.UnpicklingError):
            read(content[:end], tmp_path)


def saved(modern):
    """A state dict with a shared storage, a number and a text, as torch.save writes it."""
    weight, file = torch.arange(6.0).reshape(2, 3), io.BytesIO()
    content = OrderedDict(
        w=weight, turned=weight.T, halves=torch.ones(2).half(), steps=3, about={"name": "x", "sizes": [1, (2, None)]}
    )
    torch.save(content, file, _use_new_zipfile_serialization=modern)
    return file.getvalue()


def plain(value):
    if isinstance(value, dict | list | tuple):
        return all(map(plain, value.values() if isinstance(value, dict) else value))
    return value is None or isinstance(value, torch.Tensor | bool | int | float | str | bytes)


@pytest.mark.parametrize("reader, content, times", [
    (read_nvidia_pickle, valid(), 1000), (read_torch_file, saved(False), 500), (read_torch_file, saved(True), 500)
], ids=["nvidia", "torch, old format", "torch, new format"])  # fmt: skip
def test_damaged_files_give_plain_values_or_an_unpickling_error(reader, content, times, tmp_path):
    choose, outcomes, path = random.Random(0), {True: 0, False: 0}, tmp_path / "file"
    for _ in range(times):
        damaged = bytearray(content)
        for _ in range(choose.randint(1, 4)):
            damaged[choose.randrange(len(damaged))] = choose.randrange(256)
        if choose.random() < 0.2:
            start = choose.randrange(len(damaged))
            damaged[start : start + choose.randrange(20)] = choose.randbytes(choose.randrange(20))
        path.write_bytes(damaged)
        try:
            assert plain(reader(path))
            outcomes[True] += 1
        except pickle.UnpicklingError as error:
            assert "file cannot be read as" in str(error)
            outcomes[False] += 1
    assert min(outcomes.values()) > 10, outcomes


@pytest.mark.parametrize("modern", [True, False])
def test_files_of_torch_save_are_read_as_torch_reads_them(modern, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(saved(modern))
    found, expected = read_torch_file(path), torch.load(path, weights_only=True)
    assert list(found) == list(expected) and (found["steps"], found["about"]) == (expected["steps"], expected["about"])
    assert all(torch.equal(found[name], expected[name]) for name in ("w", "turned", "halves"))
    assert found["halves"].dtype == torch.float16
    found["w"][0, 0] = 5
    assert found["turned"][0, 0] == 5, "weights that share their storage still do, and can be written"


def test_torch_load_is_never_reached(monkeypatch, tmp_path):
    monkeypatch.setattr(torch, "load", lambda *args, **options: pytest.fail("torch.load was called"))
    assert read(valid(), tmp_path)["G_ema"]["w"].tolist() == [1, 2, 3]
    for modern in (True, False):
        (tmp_path / "file").write_bytes(saved(modern))
        assert read_torch_file(tmp_path / "file")["w"].shape == (2, 3)


def deep(depth):
    before, behind = code(network({}, {"a": Name("x y")})).split(b"cx\ny\n")
    return b"\x80\x04}" + line("G_ema") + depth * before + code(network({"w": tensor()})) + depth * behind + b"s."


def doubled(levels):
    """A part that holds the part below twice, level upon level: 2 ** levels parts for whoever counts them all."""
    content = code(network({})) + b"q\x00"
    for level in range(1, levels):
        twice = Call(PERSISTENT, {"state": {"_parameters": {}, "_modules": {"a": Name("x y"), "b": Name("x y")}}})
        content += b"0" + code(twice).replace(b"cx\ny\n", b"h" + bytes([level - 1])) + b"q" + bytes([level])
    return b"\x80\x04}" + line("G_ema") + content + b"s."


HUGE = 2**62
BOMBS = {
    "bytes": b"\x80\x04\x8e" + struct.pack("<Q", HUGE) + b"abc.",
    "text": b"\x80\x04\x8d" + struct.pack("<Q", HUGE) + b"abc.",
    "frame and long": b"\x80\x04\x95" + struct.pack("<Q", HUGE) + b"\x8b\xff\xff\xff\x7f.",
    "negative string": b"\x80\x04T\xff\xff\xff\xff.",
    "memo index": b"\x80\x04Nr\xff\xff\xff\xff.",
    "many digits": b"I" + b"9" * 100_000 + b"\n.",
    "lists": b"\x80\x04" + b"]" * 100_000 + b"a" * 99_999 + b".",
    "a deep key": b"\x80\x04})" + b"\x85" * 300_000 + b"Ns.",
    "deep calls": b"\x80\x04" + b"cx\ny\n" * 30_000 + b"N" + b"\x85R" * 30_000 + b".",
    "view": dump({"G_ema": network({"w": tensor(size=(10**6, 10**6), stride=(0, 0))})}),
    "size": dump({"G_ema": network({"w": tensor(size=(10**15,))})}),
    "negative size": dump({"G_ema": network({"w": tensor(size=(-1,))})}),
    "outside": dump({"G_ema": network({"w": tensor(offset=2)})}),
    "before": dump({"G_ema": network({"w": tensor(size=(2,), offset=-1)})}),
    "storage": dump({"G_ema": network({"w": tensor(stored().replace(b"K\x03", b"\x8a\x07" + (2**50).to_bytes(7, "little"), 1))})}),
    "many views": b"\x80\x04" + code(tensor(stored([0.0] * 5000), (5000,))) + b"q\x000"
    + dump({"G_ema": network({f"w{k}": None for k in range(2000)})})[2:].replace(b"N", b"h\x00"),
    "deep": deep(1000),
    "doubled": doubled(40),
    "itself": b"\x80\x04}" + line("G_ema") + code(Name("torch.nn Module")) + b")Rq\x00"
    + code({"_parameters": {}, "_modules": {"a": Name("x y")}}).replace(b"cx\ny\n", b"h\x00") + b"bs.",
}  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs_end_in_an_error(bomb, tmp_path):
    with pytest.raises(pickle.UnpicklingError, match="file.pkl cannot be read as one of NVIDIA"):
        read(BOMBS[bomb], tmp_path)


@pytest.mark.parametrize("bomb", ["deep", "doubled", "itself"])
def test_networks_without_end_are_told(bomb, tmp_path):
    with pytest.raises(pickle.UnpicklingError, match="nested|far more memory"):
        read(BOMBS[bomb], tmp_path)


def test_announced_storage_is_refused_before_memory_is_set_aside(tmp_path):
    with pytest.raises(pickle.UnpicklingError, match="announces 1125899906842624 numbers"):
        read(BOMBS["storage"], tmp_path)


@pytest.mark.parametrize("kind, order", [("O8", "|"), ("S4", "|"), ("V4", "|"), ("f4", ">"), ("f4,f4", "<")])
def test_only_plain_numbers_become_arrays(kind, order, tmp_path):
    def content(kind, order):
        described = Call("numpy dtype", kind, False, True, state=(3, order, None, None, None, -1, -1, 0))
        made = Call(
            "numpy.core.multiarray _reconstruct", Name("numpy ndarray"), (0,), b"b", state=(1, (2,), described, False, b"12345678")
        )
        return dump({"G_ema": Call("dnnlib.tflib.network Network", state={"variables": [("x", made)]})})

    plain = read(content("f4", "<"), tmp_path)["G_ema"]["x"]
    np.testing.assert_array_equal(plain.numpy(), np.frombuffer(b"12345678", "f4"))
    with pytest.raises(pickle.UnpicklingError, match="cannot read the weights after x"):
        read(content(kind, order), tmp_path)
