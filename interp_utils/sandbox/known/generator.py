"""A class-conditional generator in BigGAN's manner with a mapping network, as a StyleGAN has, in front of its conditional norms.

Brock et al., "Large Scale GAN Training for High Fidelity Natural Image Synthesis" (2019): a shared class embedding, conditional
batch norm, residual blocks. Left out at this size: self-attention and spectral norm.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .latents import KINDS, Z

CHANNELS = (256, 192, 128, 64, 32)  # at 4, 8, 16, 32 and 64 pixels
MAPPED, CLASS = 256, 32  # what the mapping network and the class embedding give to every block


def single(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict that was stored in half precision, in single precision."""
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}


class ConditionalNorm(nn.Module):
    """Batch norm whose gain and bias are linear in the condition [B, D] of each image."""

    def __init__(self, channels: int, d_condition: int):
        super().__init__()
        self.bn = nn.BatchNorm2d(channels, affine=False)
        self.gain = nn.Linear(d_condition, channels, bias=False)
        self.bias = nn.Linear(d_condition, channels, bias=False)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        gain, bias = (layer(condition)[:, :, None, None].to(x.dtype) for layer in (self.gain, self.bias))
        return self.bn(x) * (1 + gain) + bias


class UpConv(nn.Conv2d):
    """3 x 3 convolution of a map [B, C, h, w] at twice its size, where each number stands four times.

    What is multiplied by equal numbers is added up first: a transposed convolution of 4 x 4 weights needs 4 products for a number
    of the large map, not 9.
    """

    def __init__(self, c_in: int, c_out: int):
        super().__init__(c_in, c_out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2] <= 4:  # where adding up costs more than it saves
            return super().forward(F.interpolate(x, scale_factor=2))
        weight = F.pad(self.weight.flip(2, 3).transpose(0, 1), (1, 1, 1, 1))
        weight = weight[..., 1:, :] + weight[..., :-1, :]
        weight = weight[..., 1:] + weight[..., :-1]
        return F.conv_transpose2d(x, weight, self.bias, stride=2, padding=1)


class Up(nn.Module):
    """Residual block that doubles the size."""

    def __init__(self, c_in: int, c_out: int, d_condition: int):
        super().__init__()
        self.bn_0, self.bn_1 = ConditionalNorm(c_in, d_condition), ConditionalNorm(c_out, d_condition)
        self.conv_0 = UpConv(c_in, c_out)
        self.conv_1 = nn.Conv2d(c_out, c_out, 3, padding=1)
        self.skip = nn.Conv2d(c_in, c_out, 1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        h = self.conv_0(F.relu(self.bn_0(x, condition)))
        h = self.conv_1(F.relu(self.bn_1(h, condition)))
        return h + F.interpolate(self.skip(x), scale_factor=2)


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
