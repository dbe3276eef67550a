"""The models of chapter 4 by name: what to load, which layers hold its units, and how it wants its images."""

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial

import open_clip
import timm
import torch
from open_clip.pretrained import has_hf_hub
from timm.layers import Mlp
from timm.models.resnet import ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from ...models import best_device
from ..generators import GENERATORS
from ..generators.registry import Built
from .units import Generator, UnitModel

STAGES = ("layer1", "layer2", "layer3", "layer4")
DINO_URL = "https://dl.fbaipublicfiles.com/dino/dino_resnet50_pretrain/dino_resnet50_pretrain.pth"


@dataclass(frozen=True)
class Loaded:
    """A model as its library builds it, beside what a `UnitModel` needs to know of it."""

    model: nn.Module
    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: int
    licence: str
    source: str


def _timm(name: str, pretrained: bool) -> Loaded:
    model = timm.create_model(name, pretrained=pretrained, num_classes=0)
    config, data = model.pretrained_cfg, timm.data.resolve_model_data_config(model)
    source = f"hf-hub:{config['hf_hub_id']}" if config.get("hf_hub_id") else config.get("url", "")
    return Loaded(model, data["mean"], data["std"], data["input_size"][-1], config.get("license") or "unknown", source)


def _dino_resnet50(pretrained: bool) -> Loaded:
    loaded = _timm("resnet50", False)
    if pretrained:
        state = torch.hub.load_state_dict_from_url(DINO_URL, map_location="cpu", weights_only=True)
        loaded.model.load_state_dict({key: value for key, value in state.items() if not key.startswith("fc.")})
    return Loaded(loaded.model, loaded.mean, loaded.std, 224, "apache-2.0", DINO_URL)


def _clip_rn50(pretrained: bool) -> Loaded:
    config = open_clip.get_pretrained_cfg("RN50-quickgelu", "openai")
    model = open_clip.create_model("RN50-quickgelu", pretrained="openai" if pretrained else None)
    source = f"hf-hub:{config['hf_hub'].rstrip('/')}" if has_hf_hub() else config["url"]  # as open_clip chooses
    return Loaded(model.visual, config["mean"], config["std"], 224, "mit", source)


LOADERS: dict[str, Callable[[bool], Loaded | Built]] = {
    "resnet50": partial(_timm, "resnet50.tv_in1k"),  # the weights of torchvision's IMAGENET1K_V1
    "dino_resnet50": _dino_resnet50,
    "dino_vitb16": partial(_timm, "vit_base_patch16_224.dino"),
    "mae_vitb16": partial(_timm, "vit_base_patch16_224.mae"),
    "clip_rn50": _clip_rn50,
    **GENERATORS,
}


def register(name: str, load: Callable[[bool], Loaded | Built]) -> None:
    """Make a model known by name: load(pretrained) gives a `Loaded`, or for a generator it and the options of its `Generator`."""
    LOADERS[name] = load


def load_unit_model(name: str, device=None, pretrained: bool = True, seed: int = 0) -> UnitModel | Generator:
    """A model of chapter 4, frozen and in eval mode, with its units: outputs of the stages of a ResNet, hidden units of a ViT.

    name: one of "resnet50", "dino_resnet50", "dino_vitb16", "mae_vitb16" (CC-BY-NC), "clip_rn50", "sandbox/<name>", or
    "timm/<any ResNet or ViT of timm>". "sandbox/big_gan" and "sandbox/known_big_gan" draw and come as a
    `Generator`, and so do "biggan_deep256", "stylegan2_cat", "stylegan2_horse" and "stylegan_xl" (the last three for
    non-commercial use).
    device: by default the best there is. pretrained: False gives random weights, the untrained control, the same for the same seed.
    Raises ValueError for an unknown name, NotImplementedError for an architecture without such units.
    """
    device = torch.device(device) if device is not None else best_device()
    if not pretrained:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return _load(name, device, False)
    return _load(name, device, True)


def _load(name: str, device: torch.device, pretrained: bool) -> UnitModel | Generator:
    if name in LOADERS:
        loaded = LOADERS[name](pretrained)
    elif name.startswith("timm/") and _known_to_timm(name.removeprefix("timm/")):
        loaded = _timm(name.removeprefix("timm/"), pretrained)
    else:
        known = [*LOADERS, *(f"timm/{model}" for model in timm.list_models())]
        near = ", ".join(get_close_matches(name, known, n=3, cutoff=0.4)) or "none"
        raise ValueError(f"unknown model {name!r}; use one of {', '.join(LOADERS)} or timm/<name> (close: {near})")
    if not isinstance(loaded, Loaded):
        model, options = loaded
        return Generator(model.eval().requires_grad_(False).to(device), name=name, **options)
    model = loaded.model.eval().requires_grad_(False).to(device)
    if not pretrained:
        _open_blocks(model)
    about = {"name": name, "licence": loaded.licence, "source": loaded.source}
    layers, to_map = unit_layers(model, name)
    return UnitModel(model, layers, loaded.mean, loaded.std, loaded.size, to_map, **about)


def _known_to_timm(name: str) -> bool:
    """Whether timm has the architecture, and the weights after a dot where the name says which."""
    architecture, _, tag = name.partition(".")
    return timm.is_model(architecture) and (not tag or name in timm.list_pretrained(architecture + ".*"))


def unit_layers(model: nn.Module, name: str = "this model") -> tuple[list[str], Callable[[Tensor], Tensor] | None]:
    """Names of the layers whose units the thesis matches, and how their output becomes maps (None: it is maps).

    A ResNet has the outputs of its four stages, after the ReLU; a ViT the hidden units of its MLPs, after the GELU.
    Raises NotImplementedError for other architectures.
    """
    if isinstance(model, ResNet | open_clip.modified_resnet.ModifiedResNet):
        return list(STAGES), None
    if isinstance(model, VisionTransformer) and all(isinstance(getattr(b, "mlp", None), Mlp) for b in model.blocks):
        layers = [f"blocks.{k}.mlp.act" for k in range(len(model.blocks))]
        return layers, partial(tokens_to_map, prefix=model.num_prefix_tokens, grid=tuple(model.patch_embed.grid_size))
    raise NotImplementedError(
        f"{name} is a {type(model).__name__}; units are known of timm's ResNet, open_clip's ModifiedResNet and timm's "
        "VisionTransformer with plain MLPs. For others make a UnitModel(model, layers, ..., to_map) yourself"
    )


def _open_blocks(model: nn.Module) -> None:
    """Give batch norms that start at zero, which ends each residual block, a weight of one: else random blocks do nothing."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and module.weight is not None and not module.weight.any():
            nn.init.ones_(module.weight)


def tokens_to_map(tokens: Tensor, prefix: int, grid: tuple[int, int]) -> Tensor:
    """Tokens [B, prefix + h * w, units], the class token and registers first -> maps [B, units, h, w]."""
    if tokens.shape[1] != prefix + grid[0] * grid[1]:
        raise ValueError(f"need {prefix} tokens and a grid of {grid[0]} x {grid[1]}, got {tokens.shape[1]} tokens")
    return tokens[:, prefix:].mT.unflatten(2, grid)
