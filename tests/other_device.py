"""A device that is not there, to find on any machine what fails on a GPU alone: tensors of two devices in one operation.

Its tensors keep their numbers in memory, so that everything is computed as on the CPU, but an operation that takes one of them
together with a plain tensor raises, as CUDA does; so does NumPy. `use()` switches it on for the rest of a process, where models
are then loaded onto it. It is called "lazy", the one name that PyTorch knows, gives gradients for, and has no driver for.
"""

import os
import sys

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

ASKED = os.environ.get("INTERP_TEST_DEVICE") == "other"  # for all tests of this process
DEVICE = torch.device("lazy:0")
_aten = torch.ops.aten
_COPIES = (_aten._to_copy.default, _aten.copy_.default)
_INDEXED = (_aten.index.Tensor, _aten.index_put.default, _aten.index_put_.default, _aten._index_put_impl_.default)


class There(Tensor):
    """A tensor on the device. `here`: its numbers."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, here: Tensor):
        layout = {"strides": here.stride(), "storage_offset": here.storage_offset(), "dtype": here.dtype, "layout": here.layout}
        there = Tensor._make_wrapper_subclass(cls, here.size(), device=DEVICE, **layout)
        there.here = here
        return there

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        return _run(operation, args, kwargs or {})

    def tolist(self):
        return self.here.tolist()

    def numpy(self, *args, **kwargs):
        raise TypeError(
            f"can't convert {DEVICE} device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first"
        )

    __array__ = numpy

    def __format__(self, spec: str) -> str:
        return self.here.__format__(spec)

    def __repr__(self) -> str:
        return f"{self.here}, on {DEVICE}"


class _Mode(TorchDispatchMode):
    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        return _run(operation, args, kwargs or {})


def _may_mix(operation, args: tuple) -> bool:
    """Copies from one device to the other, and a place in a tensor of the device that is given by plain numbers."""
    if operation in _INDEXED:
        return isinstance(args[0], There) and (len(args) < 3 or isinstance(args[2], There) or args[2].ndim == 0)
    return operation in _COPIES


def _run(operation, args: tuple, kwargs: dict):
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    there = [tensor for tensor in tensors if isinstance(tensor, There)]
    plain = [tensor for tensor in tensors if not isinstance(tensor, There) and tensor.ndim]
    if there and plain and not _may_mix(operation, args):
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found at least two devices, {DEVICE} and cpu, in {operation}"
        )
    if operation is _aten._fused_sdp_choice.default:
        return 0  # attention by plain products
    stays = isinstance(args[0], There) if operation is _aten.copy_.default else bool(there)
    if kwargs.get("device") is not None:
        stays = torch.device(kwargs["device"]).type == DEVICE.type
        kwargs = {**kwargs, "device": torch.device("cpu")}
    known = {id(tensor.here): tensor for tensor in there}  # what is changed in place is given back as it came
    args, kwargs = tree_map_only(There, lambda tensor: tensor.here, (args, kwargs))
    found = operation(*args, **kwargs)
    return (
        tree_map_only(Tensor, lambda tensor: known[id(tensor)] if id(tensor) in known else There(tensor), found) if stays else found
    )


def use() -> None:
    """From here on this process has the device, and `load_clip` and `load_unit_model` put models onto it."""
    import interp_utils
    from interp_utils import models

    torch.autograd.set_multithreading_enabled(False)  # a thread of its own waits for real devices alone
    torch.__future__.set_overwrite_module_params_on_conversion(True)  # numbers of another precision are other tensors
    torch._C._set_only_lift_cpu_tensors(True)  # numbers in brackets become plain tensors first
    autocast, enabled = torch.autocast, torch.is_autocast_enabled

    class Autocast(autocast):
        def __init__(self, device_type: str, *args, **kwargs):
            super().__init__("cpu" if device_type == DEVICE.type else device_type, *args, **kwargs)

    torch.autocast = Autocast
    torch.is_autocast_enabled = lambda *device: enabled(*["cpu" if name == DEVICE.type else name for name in device])
    best = models.best_device
    for name, module in list(sys.modules.items()):
        if name.startswith(interp_utils.__name__) and getattr(module, "best_device", None) is best:
            module.best_device = lambda: DEVICE
    _Mode().__enter__()
