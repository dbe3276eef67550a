"""A discriminator on the features of a frozen network, with which generators learn from far fewer images.

Sauer et al., "Projected GANs Converge Faster" (2021) and "StyleGAN-XL" (2022): small heads judge the feature maps of a trained
classifier at several scales, mixed by fixed random projections. Here the classifier is the zoo's supervised ResNet, and one
more head sees the pixels. Heads have spectral norm (Miyato et al. 2018) and class projection (Miyato and Koyama 2018).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from .data import GROUP


def halve(c_in: int, c_out: int) -> nn.Sequential:
    return nn.Sequential(spectral_norm(nn.Conv2d(c_in, c_out, 4, stride=2, padding=1)), nn.LeakyReLU(0.2))


def with_spread(x: Tensor, group: int = GROUP) -> Tensor:
    """Maps [B, C, h, w] and one more: how much the images of a group differ, so that sameness shows (Karras et al. 2018)."""
    group = min(group, len(x))
    spread = x.float().unflatten(0, (-1, group)).var(1, correction=0).add(1e-8).sqrt().mean((1, 2, 3))
    spread = spread.repeat_interleave(group)[:, None, None, None].expand(-1, 1, *x.shape[2:])
    return torch.cat([x, spread.to(x.dtype)], 1)


class Head(nn.Module):
    """Maps [B, C, side, side], class weights [B, kinds] -> realness [B, 16] of a 4 x 4 grid."""

    def __init__(self, channels: int, side: int, kinds: int, width: int):
        super().__init__()
        widths = [channels] + [width] * round(math.log2(side // 4))
        self.body = nn.Sequential(*(halve(a, b) for a, b in zip(widths, widths[1:])))
        self.last = spectral_norm(nn.Conv2d(widths[-1] + 1, width, 3, padding=1))
        self.out = spectral_norm(nn.Conv2d(width, 1, 1))
        self.embed = spectral_norm(nn.Linear(kinds, width, bias=False))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        x = F.leaky_relu(self.last(with_spread(self.body(x))), 0.2)
        return (self.out(x)[:, 0] + torch.einsum("bk,bkhw->bhw", self.embed(c), x)).flatten(1).float()


class ProjectedDiscriminator(nn.Module):
    """Images [B, 3, 64, 64] in -1..1, class weights [B, kinds] -> realness [B, 16 * heads].

    resnet: a trained timm ResNet of the zoo; it is frozen, kept in eval mode, and no part of the state dict.
    """

    def __init__(self, resnet: nn.Module, kinds: int, width: int = 64):
        super().__init__()
        self.frozen = (resnet.eval().requires_grad_(False),)  # in a tuple, so that it is not saved with the heads
        stages = [resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4]
        channels = [stage[-1].conv2.out_channels for stage in stages]
        self.heads = nn.ModuleList([Head(12, 32, kinds, width)])
        for k, (c, side) in enumerate(zip(channels, (32, 16, 8, 4))):
            self.register_buffer(f"mix{k}", torch.randn(c, c, 1, 1) / math.sqrt(c))
            self.heads.append(Head(c, side, kinds, width))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        (resnet,) = self.frozen
        scores = [self.heads[0](F.pixel_unshuffle(x, 2), c)]
        x = resnet.act1(resnet.bn1(resnet.conv1(2 * x)))  # the ResNet's pixels are in -2..2
        for k, stage in enumerate((resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4)):
            x = stage(x)
            scores.append(self.heads[k + 1](F.conv2d(x, self.get_buffer(f"mix{k}")), c))
        return torch.cat(scores, 1)
