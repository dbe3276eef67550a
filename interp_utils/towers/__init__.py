"""What an image tower is. Nothing outside this room needs to know an attribute's name.

A family is one file with `describe(visual) -> Tower | None`. `exact.decompose` turns any `Tower` into its exact sum.
"""

from torch import nn

from . import mapped, openclip, resnet, timm_vit
from .base import Block, Embedding, FinalNorm, Mismatch, ReadOut, Tower
from .check import check, noise
from .compiled import original, run_uncompiled
from .exact import Effects, decompose, head_effects
from .mapped import Mapped
from .parts import Attention, LastLinear, Norm, NotCovered, numbers

FAMILIES = (openclip, timm_vit, resnet)


def describe(visual: nn.Module) -> Tower:
    """The description of an image tower. Raises NotCovered, with the reason, where no family has one."""
    visual = original(visual)
    if isinstance(visual, Mapped):
        return mapped.describe(visual, describe(visual.tower))
    for family in FAMILIES:
        tower = family.describe(visual)
        if tower is not None:
            return tower
    raise NotCovered(f"its image tower is a {type(visual).__name__}; ViTs of OpenCLIP and timm and CLIP's ResNets are covered")


def describe_blocks(model: nn.Module) -> Tower:
    """The description of a model's image tower, where that has blocks to take apart. Raises NotCovered, with the reason."""
    visual = getattr(model, "visual", None)
    if visual is None:
        raise NotCovered("it has no image tower `.visual`; pass an instantiated open_clip model")
    tower = describe(visual)
    if not tower.blocks:
        raise NotCovered(
            "its image tower is a ResNet, of which only the attention pool is taken apart: "
            "iu.towers.decompose(iu.towers.describe(model.visual), lambda: model.visual(pixels)), of the model that "
            "open_clip.create_model_from_pretrained gives, in eval mode"
        )
    return tower


__all__ = [
    "Attention", "Block", "Effects", "Embedding", "FinalNorm", "LastLinear", "Mapped", "Mismatch", "Norm", "NotCovered", "ReadOut",
    "Tower", "check", "decompose", "describe", "describe_blocks", "head_effects", "noise", "numbers", "original", "run_uncompiled",
]  # fmt: skip
