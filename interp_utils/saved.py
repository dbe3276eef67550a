"""Files that a pass can go on from: tensors, numbers and texts, however nested, as safetensors, written whole or not at all."""

import json
import os
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor


def write(path: str | Path, tree, about: dict | None = None) -> None:
    """Write a tree of tensors, numbers, texts, lists, tuples and dictionaries of such, beside facts `about` it.

    A file of this name is replaced once the new one is on the disk, so that a process may be killed at any moment.
    Raises OSError that names the file where it cannot be written; what was there is left as it was.
    """
    path, tensors = Path(path), {}
    plan = json.dumps({"about": about, "tree": _planned(tree, tensors)})
    unfinished = path.with_name(path.name + ".unfinished")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, unfinished, {"interp_utils": plan})
        with open(unfinished, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(unfinished, path)
        if os.name == "posix":  # so that the name, too, is on the disk
            folder = os.open(path.parent, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)
    except (OSError, SafetensorError) as error:
        unfinished.unlink(missing_ok=True)
        kept = "what it held before is whole" if path.exists() else "nothing was there before"
        raise OSError(f"cannot write {path}: {error}; {kept}. Make room or choose another place, and call again") from error


def read(path: str | Path, device=None) -> tuple:
    """What `write` wrote, (tree, about), the tensors that were not on a CPU on `device`. Raises ValueError for another file."""
    try:
        with safe_open(path, "pt") as file:
            plan = json.loads((file.metadata() or {})["interp_utils"])
            return _planted(plan["tree"], file, device), plan["about"]
    except (SafetensorError, KeyError) as error:
        raise ValueError(f"{path} holds no run of this package; choose another name, or move it away") from error


def _planned(value, tensors: dict):
    """The value as JSON can hold it, its tensors put aside."""
    if isinstance(value, Tensor):
        name = str(len(tensors))
        own = value.detach().cpu().contiguous()
        place = own.untyped_storage().data_ptr()
        shared = any(place == each.untyped_storage().data_ptr() for each in tensors.values())
        tensors[name] = own.clone() if shared else own  # safetensors writes no tensor that is a part of another
        return {"tensor": name, "moved": value.device.type != "cpu"}
    if isinstance(value, dict):
        return {"dict": [[_planned(key, tensors), _planned(each, tensors)] for key, each in value.items()]}
    if isinstance(value, list | tuple):
        return {type(value).__name__: [_planned(each, tensors) for each in value]}
    if not isinstance(value, str | int | float | bool | None):
        raise TypeError(f"cannot write a {type(value).__name__}; need tensors, numbers, texts, and lists or dictionaries of such")
    return value


def _planted(plan, file, device):
    if not isinstance(plan, dict):
        return plan
    if "tensor" in plan:
        tensor = file.get_tensor(plan["tensor"])
        return tensor.to(device) if plan["moved"] and device is not None else tensor
    if "dict" in plan:
        return {_planted(key, file, device): _planted(each, file, device) for key, each in plan["dict"]}
    (kind, each), *_ = plan.items()
    return {"list": list, "tuple": tuple}[kind](_planted(one, file, device) for one in each)
