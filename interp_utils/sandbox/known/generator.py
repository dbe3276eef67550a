"""A class-conditional generator in BigGAN's manner with a mapping network, as a StyleGAN has, in front of its conditional norms."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..big_gan import Up
from .latents import KINDS, Z

CHANNELS = (256, 192, 128, 64, 32)  # at 4, 8, 16, 32 and 64 pixels
MAPPED, CLASS = 256, 32  # what the mapping network and the class embedding give to every block


def single(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict that was stored in half precision, in single precision."""
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}


class KnownBigGAN(nn.Module):
    """z [B, 32], class weights [B, kinds] -> images [B, 3, 64, 64] in -1..1."""

    def __init__(self, channels: tuple[int, ...] = CHANNELS):
        super().__init__()
        self.kinds, self.d_z = len(KINDS), Z
        self.embed = nn.Linear(len(KINDS), CLASS, bias=False)
        widths = (Z, MAPPED, MAPPED, MAPPED)
        self.mapping = nn.Sequential(*(layer for a, b in zip(widths, widths[1:]) for layer in (nn.Linear(a, b), nn.ReLU())))
        self.first = nn.Linear(MAPPED + CLASS, channels[0] * 16)
        self.blocks = nn.ModuleList(Up(a, b, MAPPED + CLASS) for a, b in zip(channels, channels[1:]))
        self.bn = nn.BatchNorm2d(channels[-1])
        self.conv_to_rgb = nn.Conv2d(channels[-1], 3, 3, padding=1)

    def map(self, z: Tensor, c: Tensor) -> Tensor:
        """The condition w [B, 288] of every block: the mapped latent, then the class embedding."""
        return torch.cat([self.mapping(z), self.embed(c)], 1)

    def synthesis(self, w: Tensor) -> Tensor:
        x = self.first(w).unflatten(1, (-1, 4, 4)).contiguous(memory_format=torch.channels_last)
        for block in self.blocks:
            x = block(x, w)
        return self.conv_to_rgb(F.relu(self.bn(x))).float().tanh()

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return self.synthesis(self.map(z, c))
