"""StyleGAN2, written from the paper, with the parameter names of NVIDIA's PyTorch weights.

Karras et al., "Analyzing and Improving the Image Quality of StyleGAN" (2020), configuration F: mapping network, learned
constant, modulated and demodulated convolutions, noise, and outputs to RGB that are enlarged and added up. Classes and the limit of
activations are those of Karras et al., "Training Generative Adversarial Networks with Limited Data" (2020).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .ops import EqualLinear, activate, filter_down, filter_up, limited, modulated_conv, standard_filter, unit_scale


@dataclass(frozen=True)
class StyleGAN2Config:
    """Sizes of a StyleGAN2 generator; the defaults are configuration F at 256 pixels."""

    channels: tuple[int, ...] = (512, 512, 512, 512, 512, 256, 128)  # of maps with 4, 8, 16, ... pixels a side
    d: int = 512  # of z and w
    kinds: int = 0  # classes; 0 for a generator without
    mapping_layers: int = 8
    clamp: float | None = None  # activations and parts of the image are cut off at +-clamp


class Mapping(nn.Module):
    """z [B, d], class weights c [B, kinds] -> styles w [B, n_styles, d], the same for each layer, pulled towards the mean style.

    c is None for a generator without classes; one with classes has a mean style for each.
    """

    def __init__(self, config: StyleGAN2Config, n_styles: int):
        super().__init__()
        self.n_styles, self.n_layers = n_styles, config.mapping_layers
        self.embed = EqualLinear(config.kinds, config.d) if config.kinds else None
        for k in range(self.n_layers):
            self.add_module(f"fc{k}", EqualLinear(config.d * (2 if config.kinds and k == 0 else 1), config.d, lr=0.01))
        self.register_buffer("w_avg", torch.zeros(config.kinds, config.d) if config.kinds else torch.zeros(config.d))

    def forward(self, z: Tensor, c: Tensor | None = None, psi: float = 1.0) -> Tensor:
        """psi: 1 changes nothing, 0 gives the mean style (of the class). Raises ValueError for classes where there are none."""
        if (c is None) != (self.embed is None):
            raise ValueError("this generator needs class weights" if c is None else "this generator has no classes")
        w, mean = unit_scale(z), self.w_avg
        if c is not None:
            w, mean = torch.cat([w, unit_scale(self.embed(c))], 1), c @ self.w_avg
        for k in range(self.n_layers):
            w = activate(getattr(self, f"fc{k}")(w))
        return (mean + psi * (w - mean))[:, None].expand(-1, self.n_styles, -1)


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

    def forward(self, x: Tensor, w: Tensor, noise: str, clamp: float | None) -> Tensor:
        style = self.affine(w)
        if self.up:
            x = modulated_conv(x, self.weight, style, stride_up=2)
            x = filter_down(x, 4 * self.resample_filter, padding=(1, 1, 1, 1))
        else:
            x = modulated_conv(x, self.weight, style, padding=1)
        drawn = self.noise_const if noise == "fixed" else torch.randn(len(x), 1, *x.shape[2:], device=x.device, dtype=x.dtype)
        shift = self.noise_strength * drawn + self.bias[:, None, None]
        return limited(activate(x + shift.to(x.dtype)), clamp)  # of the same type, so that maps stay small under autocast


class ToRGB(nn.Module):
    """Styles weigh the channels of a map to make its part of the image [B, 3, h, w]."""

    def __init__(self, c_in: int, d: int):
        super().__init__()
        self.affine = EqualLinear(d, c_in, bias=1)
        self.weight = nn.Parameter(torch.randn(3, c_in, 1, 1))
        self.bias = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor, w: Tensor, clamp: float | None) -> Tensor:
        style = self.affine(w) / math.sqrt(self.weight.shape[1])
        return limited(modulated_conv(x, self.weight, style, demodulate=False) + self.bias[:, None, None], clamp)


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

    def forward(self, x: Tensor | None, image: Tensor | None, ws: Tensor, noise: str, clamp: float | None) -> tuple[Tensor, Tensor]:
        """ws: [B, n_convs + 1, d], the last for the output to RGB."""
        x = self.const.expand(len(ws), -1, -1, -1) if self.first else self.conv0(x, ws[:, 0], noise, clamp)
        x = self.conv1(x, ws[:, self.n_convs - 1], noise, clamp)
        part = self.torgb(x, ws[:, self.n_convs], clamp)
        if image is not None:
            part = part + filter_up(image, self.resample_filter, 2, padding=(2, 1, 2, 1), gain=4)
        return x, part


class Synthesis(nn.Module):
    """Styles [B, n_styles, d], or one for all layers [B, d] -> images [B, 3, size, size], about -1..1.

    clamp: where activations are cut off; `load_weights` sets it to what the file's generator was trained with.
    """

    def __init__(self, config: StyleGAN2Config):
        super().__init__()
        self.sizes = [4 * 2**k for k in range(len(config.channels))]
        self.n_styles, self.clamp = 2 * len(self.sizes), config.clamp
        for size, before, channels in zip(self.sizes, (0, *config.channels), config.channels):
            self.add_module(f"b{size}", Block(before, channels, size, config.d))

    def forward(self, ws: Tensor, noise: str = "fixed") -> Tensor:
        """noise: "fixed", the same for all images, or "random", drawn anew from torch's global generator."""
        if noise not in ("fixed", "random"):
            raise ValueError(f"noise must be 'fixed' or 'random', got {noise!r}")
        if ws.ndim == 2:
            ws = ws[:, None].expand(-1, self.n_styles, -1)
        x = image = None
        start = 0  # an output to RGB shares its style with the next convolution
        for size in self.sizes:
            block = getattr(self, f"b{size}")
            x, image = block(x, image, ws[:, start : start + block.n_convs + 1], noise, self.clamp)
            start += block.n_convs
        return image


class StyleGAN2(nn.Module):
    """z [B, d] (and class weights [B, kinds]) -> images [B, 3, size, size], about -1..1: `synthesis(mapping(z, c, psi), noise)`."""

    def __init__(self, config: StyleGAN2Config = StyleGAN2Config()):
        super().__init__()
        self.config, self.d_z = config, config.d
        self.synthesis = Synthesis(config)
        self.mapping = Mapping(config, self.synthesis.n_styles)

    def forward(self, z: Tensor, c: Tensor | None = None, psi: float = 1.0, noise: str = "fixed") -> Tensor:
        return self.synthesis(self.mapping(z, c, psi), noise)
