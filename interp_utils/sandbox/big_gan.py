"""A class-conditional generator for 64 x 64 images in BigGAN's manner, written from the paper.

Brock et al., "Large Scale GAN Training for High Fidelity Natural Image Synthesis" (2019): a shared class embedding, z cut
into one chunk per block, conditional batch norm, residual blocks. Left out at this size: self-attention and spectral norm.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHANNELS = (192, 128, 96, 64, 32)  # at 4, 8, 16, 32 and 64 pixels
CHUNK = 16  # of z, for the first layer and for each block


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


class Up(nn.Module):
    """Residual block that doubles the size."""

    def __init__(self, c_in: int, c_out: int, d_condition: int):
        super().__init__()
        self.bn_0, self.bn_1 = ConditionalNorm(c_in, d_condition), ConditionalNorm(c_out, d_condition)
        self.conv_0 = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.conv_1 = nn.Conv2d(c_out, c_out, 3, padding=1)
        self.skip = nn.Conv2d(c_in, c_out, 1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        h = self.conv_0(F.interpolate(F.relu(self.bn_0(x, condition)), scale_factor=2))
        h = self.conv_1(F.relu(self.bn_1(h, condition)))
        return h + F.interpolate(self.skip(x), scale_factor=2)


class BigGenerator(nn.Module):
    """z [B, d_z], class weights [B, kinds] -> images [B, 3, 64, 64] in -1..1."""

    def __init__(self, kinds: int, channels: tuple[int, ...] = CHANNELS, chunk: int = CHUNK, d_class: int = 64):
        super().__init__()
        self.kinds, self.chunk, self.d_z = kinds, chunk, chunk * len(channels)
        self.embed = nn.Linear(kinds, d_class, bias=False)
        self.first = nn.Linear(chunk + d_class, channels[0] * 16)
        self.blocks = nn.ModuleList(Up(a, b, chunk + d_class) for a, b in zip(channels, channels[1:]))
        self.bn = nn.BatchNorm2d(channels[-1])
        self.conv_to_rgb = nn.Conv2d(channels[-1], 3, 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.orthogonal_(module.weight)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        embedding = self.embed(c)
        conditions = [torch.cat([embedding, chunk], 1) for chunk in z.split(self.chunk, dim=1)]
        x = self.first(conditions[0]).unflatten(1, (-1, 4, 4)).contiguous(memory_format=torch.channels_last)
        for block, condition in zip(self.blocks, conditions[1:]):
            x = block(x, condition)
        return self.conv_to_rgb(F.relu(self.bn(x))).float().tanh()
