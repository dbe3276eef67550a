"""Files of generators' weights in the public formats, as the programs wrote them that trained the generators."""

import io
import pickle
import sys
import types
from contextlib import contextmanager

from torch import nn


@contextmanager
def nvidia():
    """Names as in NVIDIA's programs, importable only in here: while a file is written."""

    def _reconstruct_persistent_obj(meta):
        raise AssertionError("the file's code was run")

    class EasyDict(dict):
        pass

    class Network:
        pass

    made = {"torch_utils.persistence": _reconstruct_persistent_obj, "dnnlib.util": EasyDict, "dnnlib.tflib.network": Network}
    modules = {}
    for path, thing in made.items():
        thing.__module__, thing.__qualname__ = path, thing.__name__
        for k in range(1, path.count(".") + 2):
            name = ".".join(path.split(".")[:k])
            modules.setdefault(name, types.ModuleType(name))
        setattr(modules[path], thing.__name__, thing)
    sys.modules.update(modules)
    try:
        yield types.SimpleNamespace(rebuild=_reconstruct_persistent_obj, EasyDict=EasyDict, Network=Network)
    finally:
        for name in modules:
            del sys.modules[name]


def persistent_dump(content, nvidia, protocol, meta=dict) -> bytes:
    """A pickle in the format of NVIDIA's persistence: modules beside torch's own carry their source and their attributes."""

    class Pickler(pickle.Pickler):
        def reducer_override(self, thing):
            if isinstance(thing, nn.Module) and not type(thing).__module__.startswith("torch."):
                source = "import os\nraise SystemError('source code was run')"
                about = meta(type="class", version=6, module_src=source, class_name=type(thing).__name__, state=thing.__dict__)
                return nvidia.rebuild, (about,)
            return NotImplemented

    file = io.BytesIO()
    Pickler(file, protocol).dump(content)
    return file.getvalue()


def rosinality(model) -> dict:
    """A StyleGAN2's weights as rosinality's program names and shapes them."""
    ours, theirs = model.state_dict(), {}
    for k in range(model.config.mapping_layers):
        for field in ("weight", "bias"):
            theirs[f"style.{k + 1}.{field}"] = ours[f"mapping.fc{k}.{field}"]
    theirs["input.input"] = ours["synthesis.b4.const"][None]
    sizes = model.synthesis.sizes
    convs = {"conv1": "b4.conv1"}
    for k, (size, conv) in enumerate((size, conv) for size in sizes[1:] for conv in ("conv0", "conv1")):
        convs[f"convs.{k}"] = f"b{size}.{conv}"
    for k, (there, here) in enumerate(convs.items()):
        theirs[f"{there}.activate.bias"] = ours[f"synthesis.{here}.bias"]
        theirs[f"{there}.noise.weight"] = ours[f"synthesis.{here}.noise_strength"][None]
        theirs[f"noises.noise_{k}"] = ours[f"synthesis.{here}.noise_const"][None, None]
        if here.endswith("conv0"):
            theirs[f"{there}.conv.blur.kernel"] = 4 * ours[f"synthesis.{here}.resample_filter"]
    rgbs = {"to_rgb1": "b4.torgb"} | {f"to_rgbs.{k}": f"b{size}.torgb" for k, size in enumerate(sizes[1:])}
    for there, here in rgbs.items():
        theirs[f"{there}.bias"] = ours[f"synthesis.{here}.bias"][None, :, None, None]
    for there, here in (convs | rgbs).items():
        theirs[f"{there}.conv.weight"] = ours[f"synthesis.{here}.weight"][None]
        for field in ("weight", "bias"):
            theirs[f"{there}.conv.modulation.{field}"] = ours[f"synthesis.{here}.affine.{field}"]
    return {"g_ema": theirs, "latent_avg": ours["mapping.w_avg"]}
