"""The sandbox CLIP cut before its last blocks, for recipes that train these alone."""

import torch.nn.functional as F
from torch import Tensor, nn


def entering(visual: nn.Module, pixels: Tensor, n: int) -> Tensor:
    """The tokens of images [B, 3, H, W] that enter the last n blocks, [B, N+1, D]."""
    x = visual._embeds(pixels)
    for block in visual.transformer.resblocks[:-n]:
        x = block(x)
    return x


def leaving(visual: nn.Module, tokens: Tensor, n: int) -> Tensor:
    """The unit representation [B, E] that the last n blocks, norm and projection make of these tokens."""
    for block in visual.transformer.resblocks[-n:]:
        tokens = block(tokens)
    return F.normalize(visual.ln_post(tokens[:, 0]) @ visual.proj, dim=-1)


def learning(visual: nn.Module, n: int) -> list[nn.Parameter]:
    """Their parameters, which take gradients from here on."""
    parts = nn.ModuleList([*visual.transformer.resblocks[-n:], visual.ln_post]).requires_grad_(True)
    return [*parts.parameters(), visual.proj.requires_grad_(True)]
