"""Weights out of NVIDIA's network pickles (StyleGAN2 to StyleGAN-XL, and StyleGAN2's TensorFlow files), without running them.

The files hold whole networks with their source code, which the usual loader executes. Here they are read by `read_inert`, which
runs nothing; then the tensors of the networks are picked out. Only the few names below mean anything. All else is left inert.
"""

import hashlib
import io
import math
import warnings
from collections.abc import Collection, Iterator
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from .inert import Node, read_inert

PERSISTENT = "torch_utils.persistence._reconstruct_persistent_obj"
TENSORFLOW = "dnnlib.tflib.network.Network"
DICTS = ("collections.OrderedDict", "dnnlib.util.EasyDict")
SETS = ("builtins.set", "__builtin__.set")
PARAMETERS = ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state")
ARRAYS = ("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct")
SCALARS = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
STORAGE_BYTES = {
    "DoubleStorage": 8, "FloatStorage": 4, "HalfStorage": 2, "BFloat16Storage": 2, "LongStorage": 8, "IntStorage": 4,
    "ShortStorage": 2, "CharStorage": 1, "ByteStorage": 1, "BoolStorage": 1,
}  # fmt: skip
MOST_MODULES, DEEPEST = 10_000, 64  # a network that holds itself, or many times the same part, ends in an error


def read_nvidia_pickle(path: str | Path, networks: Collection[str] | None = None) -> dict[str, dict[str, Tensor]]:
    """Weights of the networks in one of NVIDIA's pickles: {"G_ema": {name: tensor}, ...}. Runs nothing from the file.

    networks: names of those wanted, None for all. Names of weights are those of PyTorch's state dicts; a TensorFlow file gives
    "G", "D" and "G_ema" with TensorFlow's names. Entries that are no networks are left out. Needs about twice the file in memory.
    Raises UnpicklingError where a file is damaged, holds no network of that name, or its tensors are not stored plainly.
    """
    path = Path(path)
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(4) == b"PK\x03\x04":
            raise UnpicklingError(f"{path.name} is a file of torch.save, not one of NVIDIA's pickles; use read_torch_file")
        file.seek(0)
        content = read_inert(file, size)
    if isinstance(content, tuple | list) and len(content) == 3:  # TensorFlow's order
        content = dict(zip(("G", "D", "G_ema"), content))
    entries = _as_dict(content)
    if entries is None:
        raise UnpicklingError(f"{path.name} holds {_what(content)}, not a dict of networks")
    found = {name: entry for name, entry in entries.items() if isinstance(entry, Node) and _fields(entry) is not None}
    wanted = list(found) if networks is None else list(networks)
    missing = [name for name in wanted if name not in found]
    if missing or not wanted:
        there = ", ".join(f"{str(name)[:40]}: {_what(entry)}" for name, entry in list(entries.items())[:10])
        raise UnpicklingError(f"{path.name} holds no network {' or '.join(missing)}; it holds {{{there}}}")
    return {name: _weights(found[name], size) for name in wanted}


def convert_nvidia_pickle(
    path: str | Path, to: str | Path | None = None, network: str = "G_ema", expected: Collection[str] = ()
) -> Path:
    """Write the weights of one network to a safetensors file, beside the pickle if `to` is None, and return its path.

    A file that is there already and was made from the same pickle is kept. expected: names of weights that must be there.
    Raises UnpicklingError as `read_nvidia_pickle`, and where expected weights are missing.
    """
    path = Path(path)
    to = Path(to) if to is not None else path.with_suffix(f".{network}.safetensors")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if to.exists():
        with safe_open(to, "pt") as old:
            done = (old.metadata() or {}).get("source_sha256") == digest and set(expected) <= set(old.keys())
        if done:
            return to
    weights = read_nvidia_pickle(path, [network])[network]
    missing = sorted(set(expected) - set(weights))
    if missing:
        raise UnpicklingError(f"{network} of {path.name} lacks {len(missing)} weights, such as {', '.join(missing[:3])}")
    weights = {name: weight.clone(memory_format=torch.contiguous_format) for name, weight in weights.items()}
    part = to.with_name(to.name + ".part")
    save_file(weights, part, metadata={"source": path.name, "source_sha256": digest})
    part.replace(to)
    return to


def _what(value: Any) -> str:
    return repr(value)[:80] if isinstance(value, Node) else type(value).__name__


def _as_dict(value: Any) -> dict | None:
    """A dict, also where it was made by one of the known names; None for other values."""
    if isinstance(value, dict):
        return value
    if not isinstance(value, Node) or value.name not in DICTS or value.args is None:
        return None
    try:
        return dict(value.args[0] if value.args else ()) | dict(value.pairs)
    except (TypeError, ValueError):
        return None


def _fields(module: Any) -> dict | None:
    """The attributes of a stored network or part of one, None for what is no such thing."""
    if not isinstance(module, Node) or module.args is None:
        return None
    state = module.state
    if module.name == PERSISTENT:
        meta = _as_dict(module.args[0]) if module.args else None
        state = meta.get("state") if meta else None
    fields = _as_dict(state)
    return fields if fields and {"_parameters", "variables"} & set(fields) else None


def _weights(network: Node, most_bytes: int) -> dict[str, Tensor]:
    """State dict of a network. All weights together are not larger than the file: else they are views that blow up when copied."""
    storages: dict[int, Tensor] = {}
    found, total, name = {}, 0, ""
    try:
        for prefix, key, value in _stored(network, "", 0, [MOST_MODULES]):
            name = prefix + key
            found[name] = _tensor(value, storages)
            total += found[name].nbytes
            if total > most_bytes:
                raise ValueError(f"weights so far need {total} bytes, more than the file has")
    except Exception as error:  # of any kind: the file decides which of its parts are not what they should be
        raise UnpicklingError(f"cannot read the weights after {name[:200] or 'the start'}: {error}") from error
    return found


def _stored(module: Node, prefix: str, depth: int, left: list[int]) -> Iterator[tuple[str, str, Any]]:
    """Prefix, name and stored value of all parameters and buffers, as PyTorch's state_dict() orders and names them."""
    fields = _fields(module)
    left[0] -= 1
    if fields is None or depth > DEEPEST or left[0] < 0:
        raise ValueError(f"part {prefix or 'network'} is {_what(module)}: no network, or nested without end")
    if "variables" in fields:
        for name, value in fields["variables"]:
            yield prefix, name, value
        for name, part in (_as_dict(fields.get("components")) or {}).items():
            yield from _stored(part, prefix + name + "/", depth + 1, left)
        return
    hidden = fields.get("_non_persistent_buffers_set", ())
    if isinstance(hidden, Node):
        hidden = [*(hidden.args[0] if hidden.name in SETS and hidden.args else ()), *hidden.items]
    for table in ("_parameters", "_buffers"):
        for name, value in (_as_dict(fields.get(table)) or {}).items():
            if value is not None and name not in hidden:
                yield prefix, name, value
    for name, part in (_as_dict(fields.get("_modules")) or {}).items():
        if part is not None:
            yield from _stored(part, prefix + name + ".", depth + 1, left)


def _tensor(value: Any, storages: dict[int, Tensor]) -> Tensor:
    while isinstance(value, Node) and value.args and value.name in PARAMETERS:
        value = value.args[0]
    if isinstance(value, Node) and value.args is not None:
        if value.name == "torch._utils._rebuild_tensor_v2":
            storage, offset, size, stride = value.args[:4]
            flat = _storage(storage, storages)
            if math.prod(size) > len(flat):
                raise ValueError(f"size {size} of a storage with {len(flat)} numbers")
            return flat.as_strided(tuple(size), tuple(stride), offset)  # refuses what lies outside
        if value.name in ARRAYS or value.name in SCALARS:
            return torch.from_numpy(_array(value).copy())
    raise ValueError(f"{_what(value)} is not a tensor")


def _array(node: Node) -> np.ndarray:
    if node.name in SCALARS:
        (kind, content), shape, fortran = node.args, (), False
    else:
        _, shape, kind, fortran, content = node.state
    if not isinstance(kind, Node) or kind.name != "numpy.dtype" or not isinstance(content, bytes):
        raise ValueError(f"array of {_what(kind)} in {_what(content)}")
    order = kind.state[1] if kind.state is not None else "="
    if not isinstance(kind.args[0], str) or kind.args[0][:1] not in tuple("fiub") or order not in ("<", "=", "|"):
        raise ValueError(f"array of type {kind.args[0]!r} with byte order {order!r}")
    return np.frombuffer(content, np.dtype(kind.args[0])).reshape(shape, order="F" if fortran else "C")


def _storage(node: Any, storages: dict[int, Tensor]) -> Tensor:
    """Flat tensor of a stored storage, which is a file of torch.save of its own."""
    if id(node) not in storages:
        if not isinstance(node, Node) or node.name != "torch.storage._load_from_bytes" or not isinstance(node.args[0], bytes):
            raise ValueError(f"storage {_what(node)}")
        _check_storage(node.args[0])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # typed storages are deprecated, but that is what the files hold
            storage = torch.load(io.BytesIO(node.args[0]), map_location="cpu", weights_only=True)
            storages[id(node)] = torch.empty(0, dtype=storage.dtype).set_(storage)
    return storages[id(node)]


def _check_storage(content: bytes) -> None:
    """Raise ValueError unless the announced size of a storage fits into its bytes; torch sets the memory aside before it looks."""
    file = io.BytesIO(content)
    *_, announced = (read_inert(file, len(content)) for _ in range(4))  # magic number, version, machine, content
    if not isinstance(announced, Node) or announced.name != "<persistent>":
        raise ValueError(f"a storage was expected, got {_what(announced)}")
    _, kind, _, _, count, *_ = announced.args[0]
    bytes_each = STORAGE_BYTES.get(kind.name.removeprefix("torch.")) if isinstance(kind, Node) else None
    if bytes_each is None or not isinstance(count, int) or not 0 <= count * bytes_each <= len(content):
        raise ValueError(f"storage {_what(kind)} announces {count} numbers in {len(content)} bytes")
