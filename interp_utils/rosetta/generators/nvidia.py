"""Weights out of NVIDIA's network pickles (StyleGAN2 to StyleGAN-XL, and StyleGAN2's TensorFlow files), without running them.

The files hold whole networks with their source code, which the usual loader executes. Here they are read by `read_inert`, which
runs nothing; then the tensors of the networks are picked out. Only the few names below mean anything. All else is left inert.
"""

import hashlib
import json
from collections.abc import Collection, Iterator
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, BinaryIO

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from .inert import LONGEST_NAME, Budget, Node, read_inert
from .tensors import Find, as_dict, in_bytes, tensor, unpickling_errors, what

KIND = "one of NVIDIA's pickles"
PERSISTENT = "torch_utils.persistence._reconstruct_persistent_obj"
CLAMP, FORMAT = "conv_clamp", "2"  # of the converted files: those before the second do not say where activations are cut off
SETS = ("builtins.set", "__builtin__.set")
DEEPEST, PART = 64, 1_000  # levels of a network, so that one which holds itself ends in an error; bytes that a part may take


def read_nvidia_pickle(path: str | Path, networks: Collection[str] | None = None) -> dict[str, dict[str, Tensor]]:
    """Weights of the networks in one of NVIDIA's pickles: {"G_ema": {name: tensor}, ...}. Runs nothing from the file.

    networks: names of those wanted, None for all. Names of weights are those of PyTorch's state dicts; a TensorFlow file gives
    "G", "D" and "G_ema" with TensorFlow's names. Entries that are no networks are left out. Needs about twice the file in memory.
    Raises UnpicklingError where a file is damaged, holds no network of that name, or its tensors are not stored plainly.
    """
    path = Path(path)
    with path.open("rb") as file, unpickling_errors(path, KIND):
        wanted, budget = _networks(file, path, networks)
        find = in_bytes(budget)
        return {name: _weights(network, find, budget) for name, network in wanted.items()}


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
            about = old.metadata() or {}
            if (about.get("source_sha256"), about.get("format")) == (digest, FORMAT) and set(expected) <= set(old.keys()):
                return to
    with path.open("rb") as file, unpickling_errors(path, KIND):
        wanted, budget = _networks(file, path, [network])
        weights, about = _weights(wanted[network], in_bytes(budget), budget), _settings(wanted[network], budget)
    missing = sorted(set(expected) - set(weights))
    if missing:
        raise UnpicklingError(f"{network} of {path.name} lacks {len(missing)} weights, such as {', '.join(missing[:3])}")
    weights = {name: weight.clone(memory_format=torch.contiguous_format) for name, weight in weights.items()}
    part = to.with_name(to.name + ".part")
    save_file(weights, part, metadata={"source": path.name, "source_sha256": digest, "format": FORMAT, **about})
    part.replace(to)
    return to


def _networks(file: BinaryIO, path: Path, networks: Collection[str] | None) -> tuple[dict[str, Node], Budget]:
    """The networks asked for as the pickle describes them, and what their weights may cost."""
    if file.read(4) == b"PK\x03\x04":
        raise ValueError("it is a file of torch.save; use read_torch_file")
    file.seek(0)
    budget = Budget(path.stat().st_size)
    content = read_inert(file, budget)
    if isinstance(content, tuple | list) and len(content) == 3:  # TensorFlow's order
        content = dict(zip(("G", "D", "G_ema"), content))
    entries = as_dict(content, budget)
    if entries is None:
        raise ValueError(f"it holds {what(content)}, not a dict of networks")
    found = {name: entry for name, entry in entries.items() if isinstance(name, str) and _fields(entry, budget) is not None}
    wanted = list(found) if networks is None else list(networks)
    missing = [name for name in wanted if name not in found]
    if missing or not wanted:
        there = ", ".join(f"{str(name)[:40]}: {what(entry)}" for name, entry in list(entries.items())[:10])
        raise ValueError(f"it holds no network {' or '.join(missing)}; it holds {{{there}}}")
    return {name: found[name] for name in wanted}, budget


def _fields(module: Any, budget: Budget) -> dict | None:
    """The attributes of a stored network or part of one, None for what is no such thing."""
    if not isinstance(module, Node) or module.args is None:
        return None
    state = module.state
    if module.name == PERSISTENT:
        meta = as_dict(module.args[0], budget) if module.args else None
        state = meta.get("state") if meta else None
    fields = as_dict(state, budget)
    return fields if fields and ("_parameters" in fields or "variables" in fields) else None


def _parts(module: Any, budget: Budget, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, dict]]:
    """Prefix and attributes of a network and all its parts, in the order of PyTorch's state_dict()."""
    budget.spend(PART)
    fields = _fields(module, budget)
    if fields is None or depth > DEEPEST:
        raise ValueError(f"part {prefix[:200] or 'network'} is {what(module)}: no network, or nested without end")
    yield prefix, fields
    table, end = ("components", "/") if "variables" in fields else ("_modules", ".")
    for name, part in (as_dict(fields.get(table), budget) or {}).items():
        if part is not None:
            yield from _parts(part, budget, _joined(prefix, name, end), depth + 1)


def _joined(prefix: str, name: Any, end: str = "") -> str:
    if not isinstance(name, str) or len(prefix) + len(name) > LONGEST_NAME:
        raise ValueError(f"below {prefix[:200] or 'the network'} a name is {what(name)}, or longer than {LONGEST_NAME} characters")
    return prefix + name + end


def _stored(fields: dict, budget: Budget) -> Iterator[tuple[str, Any]]:
    """Name and stored value of the parameters and buffers of one part."""
    if "variables" in fields:
        yield from fields["variables"]
        return
    hidden = fields.get("_non_persistent_buffers_set", ())
    if isinstance(hidden, Node):
        hidden = [*(hidden.args[0] if hidden.name in SETS and hidden.args else ()), *hidden.items]
    budget.spend(100 * len(hidden))
    hidden = {name for name in hidden if isinstance(name, str)}
    for table in ("_parameters", "_buffers"):
        for name, value in (as_dict(fields.get(table), budget) or {}).items():
            if value is not None and name not in hidden:
                yield name, value


def _weights(network: Node, find: Find, budget: Budget) -> dict[str, Tensor]:
    """State dict of a network."""
    found, name = {}, ""
    try:
        for prefix, fields in _parts(network, budget):
            for key, value in _stored(fields, budget):
                name = _joined(prefix, key)
                found[name] = tensor(value, find, budget)
    except Exception as error:
        raise ValueError(f"cannot read the weights after {name[:200] or 'the start'}: {error}") from error
    return found


def _settings(network: Node, budget: Budget) -> dict[str, str]:
    """What a network computes with besides its weights, where the file says so: the limit at which activations are cut off."""
    found = []
    for _, fields in _parts(network, budget):
        about = as_dict(fields.get("static_kwargs"), budget) or fields  # TensorFlow's networks keep what they were called with
        if CLAMP in about:
            found.append(about[CLAMP])
    if not all(isinstance(value, int | float | None) and value == found[0] for value in found):
        raise ValueError("its layers cut their activations off at different limits")
    return {CLAMP: json.dumps(found[0])} if found else {}
