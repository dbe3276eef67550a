"""StyleGAN2, written from the paper, with the parameter names of NVIDIA's PyTorch weights.

Karras et al., "Analyzing and Improving the Image Quality of StyleGAN" (2020), configuration F: mapping network, learned
constant, modulated and demodulated convolutions, noise, and outputs to RGB that are enlarged and added up.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...sandbox.zoo.style_gan import EqualLinear, activate, modulated_conv, unit_scale
from .ops import filter_down, filter_up


@dataclass(frozen=True)
class StyleGAN2Config:
    """Sizes of a StyleGAN2 generator without classes; the defaults are configuration F at 256 pixels."""

    size: int = 256
    d: int = 512  # of z and w
    most_channels: int = 512
    base: int = 32768  # channels at a size are base / size, at most `most_channels`
    mapping_layers: int = 8

    @property
    def sizes(self) -> list[int]:
        return [2**k for k in range(2, int(math.log2(self.size)) + 1)]

    def channels(self, size: int) -> int:
        return min(self.base // size, self.most_channels)


def standard_filter() -> Tensor:
    """The low-pass filter [4, 4] with rows and columns [1, 3, 3, 1], sum 1."""
    taps = torch.tensor([1.0, 3, 3, 1])
    return taps[:, None] * taps / 64


class Mapping(nn.Module):
    """z [B, d] -> styles w [B, n_styles, d], the same for each layer, pulled towards the mean style."""

    def __init__(self, config: StyleGAN2Config, n_styles: int):
        super().__init__()
        self.n_styles, self.n_layers = n_styles, config.mapping_layers
        for k in range(self.n_layers):
            self.add_module(f"fc{k}", EqualLinear(config.d, config.d, lr=0.01))
        self.register_buffer("w_avg", torch.zeros(config.d))

    def forward(self, z: Tensor, psi: float = 1.0) -> Tensor:
        """psi: 1 changes nothing, 0 gives the mean style."""
        w = unit_scale(z)
        for k in range(self.n_layers):
            w = activate(getattr(self, f"fc{k}")(w))
        return (self.w_avg + psi * (w - self.w_avg))[:, None].expand(-1, self.n_styles, -1)


class StyledConv(nn.Module):
    """Modulated convolution, noise, bias and leaky ReLU; its output is what chapter 4 matches."""

    def __init__(self, c_in: int, c_out: int, size: int, d: int, up: bool = False):
        super().__init__()
        self.up = up
        self.affine = EqualLinear(d, c_in, bias=1)
        self.weight = nn.Parameter(torch.randn(c_out, c_in, 3, 3))
        self.bias = nn.Parameter(torch.zeros(c_out))
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("noise_const", torch.randn(size, size))
        self.register_buffer("resample_filter", standard_filter())

    def forward(self, x: Tensor, w: Tensor, noise: str) -> Tensor:
        style = self.affine(w)
        if self.up:
            x = modulated_conv(x, self.weight, style, stride_up=2)
            x = filter_down(x, 4 * self.resample_filter, padding=(1, 1, 1, 1))
        else:
            x = modulated_conv(x, self.weight, style, padding=1)
        drawn = self.noise_const if noise == "fixed" else torch.randn(len(x), 1, *x.shape[2:], device=x.device, dtype=x.dtype)
        return activate(x + self.noise_strength * drawn + self.bias[:, None, None])


class ToRGB(nn.Module):
    """Styles weigh the channels of a map to make its part of the image [B, 3, h, w]."""

    def __init__(self, c_in: int, d: int):
        super().__init__()
        self.affine = EqualLinear(d, c_in, bias=1)
        self.weight = nn.Parameter(torch.randn(3, c_in, 1, 1))
        self.bias = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        style = self.affine(w) / math.sqrt(self.weight.shape[1])
        return modulated_conv(x, self.weight, style, demodulate=False) + self.bias[:, None, None]


class Block(nn.Module):
    """The layers of one size. The first starts from a constant, the others double the size of what comes."""

    def __init__(self, c_in: int, c_out: int, size: int, d: int):
        super().__init__()
        self.first = size == 4
        self.n_convs = 1 if self.first else 2
        self.register_buffer("resample_filter", standard_filter())
        if self.first:
            self.const = nn.Parameter(torch.randn(c_out, size, size))
        else:
            self.conv0 = StyledConv(c_in, c_out, size, d, up=True)
        self.conv1 = StyledConv(c_out, c_out, size, d)
        self.torgb = ToRGB(c_out, d)

    def forward(self, x: Tensor | None, image: Tensor | None, ws: Tensor, noise: str) -> tuple[Tensor, Tensor]:
        """ws: [B, n_convs + 1, d], the last for the output to RGB."""
        x = self.const.expand(len(ws), -1, -1, -1) if self.first else self.conv0(x, ws[:, 0], noise)
        x = self.conv1(x, ws[:, self.n_convs - 1], noise)
        part = self.torgb(x, ws[:, self.n_convs])
        if image is not None:
            part = part + filter_up(image, self.resample_filter, 2, padding=(2, 1, 2, 1), gain=4)
        return x, part


class Synthesis(nn.Module):
    """Styles [B, n_styles, d] -> images [B, 3, size, size], about -1..1."""

    def __init__(self, config: StyleGAN2Config):
        super().__init__()
        self.sizes, self.n_styles = config.sizes, 2 * len(config.sizes)
        for size in self.sizes:
            self.add_module(f"b{size}", Block(config.channels(size // 2), config.channels(size), size, config.d))

    def forward(self, ws: Tensor, noise: str = "fixed") -> Tensor:
        """noise: "fixed", the same for all images, or "random", drawn anew from torch's global generator."""
        if noise not in ("fixed", "random"):
            raise ValueError(f"noise must be 'fixed' or 'random', got {noise!r}")
        x = image = None
        start = 0  # an output to RGB shares its style with the next convolution
        for size in self.sizes:
            block = getattr(self, f"b{size}")
            x, image = block(x, image, ws[:, start : start + block.n_convs + 1], noise)
            start += block.n_convs
        return image


class StyleGAN2(nn.Module):
    """z [B, d] -> images [B, 3, size, size], about -1..1: `synthesis(mapping(z, psi), noise)`."""

    def __init__(self, config: StyleGAN2Config = StyleGAN2Config()):
        super().__init__()
        self.config = config
        self.synthesis = Synthesis(config)
        self.mapping = Mapping(config, self.synthesis.n_styles)

    def forward(self, z: Tensor, psi: float = 1.0, noise: str = "fixed") -> Tensor:
        return self.synthesis(self.mapping(z, psi), noise)
