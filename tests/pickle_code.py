"""Pickles put together by hand, with calls and names that need not exist in this process."""

import io
import struct

import torch

from interp_utils.rosetta import read_nvidia_pickle

PERSISTENT = "torch_utils.persistence _reconstruct_persistent_obj"
REBUILD, STORAGE = "torch._utils _rebuild_tensor_v2", "torch.storage _load_from_bytes"


class Name(str):
    """Stands for a global in `dump`, as "module name"."""


class Call:
    def __init__(self, name, *args, state=None):
        self.name, self.args, self.state = name, args, state


def code(value) -> bytes:
    """Instructions that push a value; calls and names need not exist in this process."""
    if isinstance(value, Name):
        module, name = value.split(" ")
        return f"c{module}\n{name}\n".encode()
    if isinstance(value, Call):
        build = b"" if value.state is None else code(value.state) + b"b"
        return code(Name(value.name)) + code(value.args) + b"R" + build
    if isinstance(value, dict):
        return b"}" + b"".join(code(key) + code(item) + b"s" for key, item in value.items())
    if isinstance(value, list | tuple):
        return b"(" + b"".join(map(code, value)) + (b"l" if isinstance(value, list) else b"t")
    if value is None or isinstance(value, bool):
        return {None: b"N", True: b"\x88", False: b"\x89"}[value]
    if isinstance(value, int):
        return b"\x8a\x08" + value.to_bytes(8, "little", signed=True)
    mark, content = (b"X", value.encode()) if isinstance(value, str) else (b"B", value)
    return mark + struct.pack("<I", len(content)) + content


def dump(value) -> bytes:
    return b"\x80\x04" + code(value) + b"."


def stored(values=(1.0, 2.0, 3.0)) -> bytes:
    file = io.BytesIO()
    torch.save(torch.tensor(values).storage(), file, _use_new_zipfile_serialization=False)
    return file.getvalue()


def tensor(storage=None, size=(3,), stride=(1,), offset=0):
    return Call(REBUILD, Call(STORAGE, stored() if storage is None else storage), offset, size, stride, False, None)


def network(weights, modules=None, **more):
    state = {"_parameters": weights, "_buffers": {}, "_modules": modules or {}, **more}
    return Call(PERSISTENT, {"type": "class", "version": 6, "module_src": "raise SystemError", "state": state})


def line(text):
    return b"V" + text.encode() + b"\n"


def read(content, tmp_path):
    path = tmp_path / "file.pkl"
    path.write_bytes(content)
    return read_nvidia_pickle(path)
