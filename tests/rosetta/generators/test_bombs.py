"""Files made to crash or starve their reader end soon, in little memory, and never in anything but an UnpicklingError."""

import gc
import io
import pickle
import pickletools
import struct
import time
import tracemalloc
import zipfile

import pytest
import torch
from pickle_code import PERSISTENT, Call, Name, code, line, network, stored, tensor

from interp_utils.rosetta import read_nvidia_pickle, read_torch_file

SIZE = 400_000
SECONDS, TIMES = 2, 10  # of processor time; of the file's size in memory
HALF = SIZE // 2
HOLE = Name("x y")  # a place to fill with instructions


def fill(value, instructions: bytes) -> bytes:
    return code(value).replace(code(HOLE), instructions)


def text(content: bytes) -> bytes:
    return b"X" + struct.pack("<I", len(content)) + content


def integer(k: int) -> bytes:
    return b"\x8a\x0c" + k.to_bytes(12, "little", signed=True)


def each(make, size: int = SIZE) -> bytes:
    """make(0) + make(1) + ... of about `size` bytes."""
    return b"".join(make(k) for k in range(size // len(make(1000))))


def pickled(part: bytes, before: bytes = b"", behind: bytes = b"") -> bytes:
    return b"\x80\x04" + before + part * ((SIZE - len(before) - len(behind)) // len(part)) + behind + b"."


def in_network(parameters: bytes = b"}", buffers: bytes = b"}", modules: bytes = b"}", hidden: bytes = b"]") -> bytes:
    """A file with one network; the arguments are the instructions that push its tables."""
    tables = zip(("_parameters", "_buffers", "_non_persistent_buffers_set", "_modules"), (parameters, buffers, hidden, modules))
    state = b"}" + b"".join(line(name) + table + b"s" for name, table in tables)
    return b"\x80\x04}" + line("G_ema") + fill(Call(PERSISTENT, {"state": HOLE}), state) + b"s."


def named(value: bytes, size: int = HALF) -> bytes:
    """A dict with the same value under many names."""
    return b"}" + value + b"q\x010" + each(lambda k: text(b"%06d" % k) + b"h\x01s", size)


DEEP = b")" + b"\x85" * SIZE
LONG = text(b"n" * HALF)
EQUAL = each(lambda k: integer(k * (2**61 - 1)) + b"N")  # keys with one hash
ONE, NAMES = code(tensor()), each(lambda k: text(b"%06d" % k), HALF)
PARTS = {
    "keys": b"NNs", "names": b"ca\nb\n", "calls": b"h\x00)R", "builds": b"h\x00Nb", "instances": b"(ia\nb\n", "ids": b"NQ",
    "sets": b"\x8f\x94", "frozen sets": b"(N\x91", "dicts": b"}\x94", "tuples": b"(t", "items": b"h\x00Na", "gets": b"h\x00",
    "far places": b"r\x00\x00\x00\x01", "wide texts": text("a\U0001f600".encode()),
}  # fmt: skip
BOMBS = {
    "deep key": b"\x80\x04}" + DEEP + b"Ns.",
    "deep key in a list of pairs": in_network(b"ccollections\nOrderedDict\n]" + DEEP + b"N\x86a\x85R"),
    "deep element of a set": b"\x80\x04\x8f(" + DEEP + b"\x90.",
    "deep frozenset": b"\x80\x04(" + DEEP + b"\x91.",
    "deep lists": b"\x80\x04" + b"]" * HALF + b"a" * (HALF - 1) + b".",
    "deep calls": b"\x80\x04" + b"cx\ny\n" * (SIZE // 7) + b"N" + b"\x85R" * (SIZE // 7) + b".",
    "deep parameters": in_network(
        b"}" + line("w") + b"ctorch._utils\n_rebuild_parameter\n" * (SIZE // 40) + b"N" + b"\x85R" * (SIZE // 40) + b"s"
    ),
    "equal hashes": b"\x80\x04}(" + EQUAL + b"u.",
    "equal hashes of parameters": in_network(b"}(" + EQUAL + b"u"),
    "long integers": pickled(b"\x8b" + struct.pack("<I", 40_000) + b"\x7f" * 40_000),
    "a long integer as key": b"\x80\x04}\x8b" + struct.pack("<i", SIZE) + b"\x7f" * SIZE + b"Ns.",
    "digits": b"\x80\x04I" + b"9" * SIZE + b"\n.",
    "joined names": pickled(b"h\x00h\x00\x93", LONG + b"q\x000"),
    "a long global": b"\x80\x04c" + b"m" * SIZE + b"\nn\n.",
    "long names of parts times weights": in_network(
        modules=b"}" + LONG + fill(network(HOLE), named(ONE)) + b"s"
    ),
    "hidden buffers": in_network(buffers=named(ONE), hidden=b"](" + NAMES + b"e"),
    "hidden buffers, in each of many parts": in_network(
        modules=b"](" + NAMES + b"eq\x020" + named(fill(network({}, _non_persistent_buffers_set=HOLE), b"h\x02"))
    ),
    "weights, in each of many parts": in_network(modules=named(ONE) + b"q\x020" + named(fill(network(HOLE), b"h\x02"))),
    "a storage decoded again and again": in_network(
        code(stored([0.0] * (HALF // 4))) + b"q\x000}"
        + each(lambda k: text(b"%06d" % k) + fill(tensor(HOLE, (HALF // 4,)), b"h\x00") + b"s", HALF)
    ),
    "many axes": in_network(b"}" + line("w") + fill(tensor(size=HOLE), b"(" + b"K\xff" * HALF + b"t") + b"s"),
    "huge axes": in_network(b"}" + line("w") + fill(tensor(size=HOLE), b"(" + 30 * integer(2**63) + b"t") + b"s"),
    "a text that grows": b"\x80\x04" + text(b"a" * SIZE + "\U0001f600".encode()) + b".",
    **{f"many {name}": pickled(part, b"}q\x00" if name == "keys" else b"]q\x00") for name, part in PARTS.items()},
    **{
        f"only {each.name}": pickled(each.code.encode("latin-1"), b"(" * 900 + b"NNNN")
        for each in pickletools.opcodes if each.arg is None and each.name not in ("STOP", "POP_MARK")
    },
}  # fmt: skip


def zipped(content: bytes, entries: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, entry in {"a/data.pkl": b"\x80\x02" + content + b".", **entries}.items():
            archive.writestr(name, entry)
    return file.getvalue()


def weight(place: str, count: int) -> bytes:
    storage = code(("storage", Name("torch ByteStorage"), place, "cpu", count)) + b"Q"
    return fill(Call("torch._utils _rebuild_tensor_v2", HOLE, 0, (count,), (1,)), storage)


def old_format() -> bytes:
    file = io.BytesIO()
    torch.save(torch.zeros(HALF // 2), file, _use_new_zipfile_serialization=False)
    return file.getvalue()


BYTES = {"a/data/0": b"\0" * HALF}
TORCH_BOMBS = {
    "compressed": zipped(weight("0", 50 * SIZE), {"a/data/0": b"\0" * 50 * SIZE, "pad": b""}, zipfile.ZIP_DEFLATED),
    "compressed pickle": zipped(b"N" * 50 * SIZE, {}, zipfile.ZIP_DEFLATED),
    "many entries": zipped(b"N", {f"{k}": b"" for k in range(SIZE // 100)}),
    "a storage viewed again and again": zipped(b"}" + each(lambda k: text(b"%06d" % k) + weight("0", HALF) + b"s", HALF), BYTES),
    "announced": zipped(weight("0", 2**40), BYTES),
    "itself": zipped(b"]q\x00h\x00a", BYTES),
    "instructions": zipped(b"]" * SIZE, {}),
    "old format, instructions": b"\x80\x02" + b"]" * SIZE + b".",
    "old format, announced": old_format().replace(struct.pack("<i", HALF // 2), struct.pack("<i", 2**31 - 1)),
    "old format, cut off": old_format()[:-HALF],
}


@pytest.fixture(scope="module", autouse=True)
def few_objects():
    """Leave what this process holds besides out of every garbage collection, as what was imported is: it is not the reader's."""
    gc.freeze()


@pytest.mark.parametrize("read, bomb", [
    *((read_nvidia_pickle, name) for name in BOMBS), *((read_torch_file, name) for name in TORCH_BOMBS)
], ids=lambda value: value if isinstance(value, str) else "")  # fmt: skip
def test_bombs_cost_little_and_end_in_an_error(read, bomb, tmp_path):
    content, path = (BOMBS if read is read_nvidia_pickle else TORCH_BOMBS)[bomb], tmp_path / "file.pkl"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        start = time.process_time()
        with pytest.raises(pickle.UnpicklingError, match="file.pkl cannot be read as"):
            read(path)
        spent, peak = time.process_time() - start, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert spent < SECONDS and peak < TIMES * max(len(content), SIZE), (spent, peak / len(content))
