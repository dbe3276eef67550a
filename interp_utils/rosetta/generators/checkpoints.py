"""From public files to weights of our generators: fetching, reading and renaming."""

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

from .nvidia import CLAMP, convert_nvidia_pickle
from .ops import standard_filter
from .style_gan2 import StyleGAN2
from .torch_files import read_torch_file

Rule = Callable[[str], tuple[str, Callable[[Tensor], Tensor]]]


def fetch(url: str, sha256: str | None = None) -> Path:
    """Path of a file from the web, kept in torch.hub's folder of checkpoints.

    sha256: what the file must have; None where nobody has published it. Raises OSError where it cannot be fetched, and
    ValueError where it is not the file expected.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path))
        except OSError as error:
            raise OSError(f"could not fetch {url} ({error}); get the file elsewhere and put it at {path}") from error
    if sha256 is not None:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha256:
            raise ValueError(f"{path} has SHA-256 {found}, expected {sha256}; delete it if it was cut off, and try again")
    return path


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Put the weights of a public file into one of our generators; every weight must be there, and no other.

    path: one of NVIDIA's pickles (.pkl, converted to a .safetensors file beside it), .safetensors, or a file of torch.save. For a
    StyleGAN2 the names may be NVIDIA's, those of its TensorFlow files, or those of rosinality's PyTorch files. Where a pickle says
    at which limit activations are cut off, `model.synthesis.clamp` becomes that limit.
    Raises UnpicklingError for a bad file, RuntimeError or ValueError where names or shapes do not fit.
    """
    path, about = Path(path), {}
    if path.suffix == ".pkl":
        expected = () if isinstance(model, StyleGAN2) else model.state_dict()  # a StyleGAN2's may bear other names
        path = convert_nvidia_pickle(path, expected=expected)
    if path.suffix == ".safetensors":
        with safe_open(path, "pt") as file:
            state, about = {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}
    else:
        state = read_torch_file(path)
    if not isinstance(state, Mapping):
        raise ValueError(f"{path.name} holds {type(state).__name__}, not a dict of weights")
    no_mean = False
    if isinstance(model, StyleGAN2) and "g_ema" in state:
        no_mean = state.get("latent_avg") is None
        mean = model.mapping.w_avg if no_mean else state["latent_avg"]
        state = _renamed(model, {**state["g_ema"], "latent_avg": mean}, _rosinality)
    elif isinstance(model, StyleGAN2) and any("/" in name for name in state):
        state = _renamed(model, state, _tensorflow)
    elif isinstance(model, StyleGAN2) and model.config.kinds and "mapping.w_avg" in state:  # NVIDIA's have one mean for all classes
        state = {**state, "mapping.w_avg": state["mapping.w_avg"].expand_as(model.mapping.w_avg)}
    model.load_state_dict(state)
    if CLAMP in about:
        model.synthesis.clamp = json.loads(about[CLAMP])
    if no_mean:
        z = torch.randn(10_000, model.config.d, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            model.mapping.w_avg.copy_(model.mapping(z.to(model.mapping.w_avg.device))[:, 0].mean(0))


def _renamed(model: nn.Module, source: Mapping[str, Tensor], rule: Rule) -> dict[str, Tensor]:
    """Weights under our names. The low-pass filters are ours: other files do not hold them, or multiplied by 4."""
    state = {}
    for key, own in model.state_dict().items():
        if key.endswith("resample_filter"):
            state[key] = standard_filter()
            continue
        name, change = rule(key)
        if name not in source:
            raise ValueError(f"the file lacks {name}, which is our {key}; is it a StyleGAN2 of another size?")
        value = change(source[name])
        if [n for n in value.shape if n != 1] != [n for n in own.shape if n != 1]:
            raise ValueError(f"{name} has shape {list(source[name].shape)}, but our {key} has {list(own.shape)}")
        state[key] = value.reshape(own.shape)  # other files have more axes of length one
    return state


def _parts(key: str) -> tuple[int, str, str]:
    """Image size, layer and field of a weight of a synthesis network."""
    size, layer, field = re.fullmatch(r"synthesis\.b(\d+)\.(\w+)\.?(.*)", key).groups()
    return int(size), layer, field


def _rosinality(key: str) -> tuple[str, Callable[[Tensor], Tensor]]:
    if key == "mapping.w_avg":
        return "latent_avg", _same
    if found := re.fullmatch(r"mapping\.fc(\d+)\.(\w+)", key):
        return f"style.{int(found[1]) + 1}.{found[2]}", _same
    size, layer, field = _parts(key)
    level = int(math.log2(size)) - 2
    if layer == "const":
        return "input.input", _same
    if field == "noise_const":
        return f"noises.noise_{2 * level - (layer == 'conv0')}", _same
    if layer == "torgb":
        place = f"to_rgbs.{level - 1}" if level else "to_rgb1"
    else:
        place = f"convs.{2 * level - (2 if layer == 'conv0' else 1)}" if level else "conv1"
    bias = "bias" if layer == "torgb" else "activate.bias"
    fields = {"weight": "conv.weight", "bias": bias, "noise_strength": "noise.weight"}
    return f"{place}.{fields.get(field) or field.replace('affine', 'conv.modulation')}", _same


def _tensorflow(key: str) -> tuple[str, Callable[[Tensor], Tensor]]:
    if key == "mapping.w_avg":
        return "dlatent_avg", _same
    if found := re.fullmatch(r"mapping\.fc(\d+)\.(\w+)", key):
        return f"mapping/Dense{found[1]}/{found[2]}", Tensor.t if found[2] == "weight" else _same
    size, layer, field = _parts(key)
    level = int(math.log2(size)) - 2
    if layer == "const":
        return "synthesis/4x4/Const/const", _same
    if field == "noise_const":
        return f"synthesis/noise{2 * level - (layer == 'conv0')}", _same
    names = {"conv0": "Conv0_up", "conv1": "Conv1" if level else "Conv", "torgb": "ToRGB"}
    place = f"synthesis/{size}x{size}/{names[layer]}"
    if field == "weight":  # rows, columns, in, out; turned round where a transposed convolution uses it
        return f"{place}/weight", lambda w: (w.flip(0, 1) if layer == "conv0" else w).permute(3, 2, 0, 1)
    if field == "affine.weight":
        return f"{place}/mod_weight", Tensor.t
    if field == "affine.bias":
        return f"{place}/mod_bias", lambda bias: bias + 1  # TensorFlow's styles are differences from 1
    return f"{place}/{field}", _same


def _same(value: Tensor) -> Tensor:
    return value
