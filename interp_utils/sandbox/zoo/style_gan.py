"""A style-based generator for 64 x 64 images, written from the papers.

Karras et al., "A Style-Based Generator Architecture for GANs" (2019), and "Analyzing and Improving the Image Quality of
StyleGAN" (2020): mapping network, learned constant, modulated and demodulated convolutions, noise, skip ToRGB outputs.
Classes enter as in "Training GANs with Limited Data" (2020), by an embedding beside z. Left out: path length regularisation
and style mixing, which serve larger trainings.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHANNELS = {4: 128, 8: 128, 16: 96, 32: 64, 64: 24}
GAIN = math.sqrt(2)  # keeps the variance behind a leaky ReLU


def activate(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2) * GAIN


def unit_scale(x: Tensor) -> Tensor:
    """Divide each row [..., C] by its root mean square (PixelNorm)."""
    return x * (x.square().mean(-1, keepdim=True) + 1e-8).rsqrt()


class EqualLinear(nn.Module):
    """Linear layer with an equalised learning rate: weights are stored with unit variance and scaled in use."""

    def __init__(self, d_in: int, d_out: int, bias: float = 0.0, lr: float = 1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(d_out, d_in) / lr)
        self.bias = nn.Parameter(torch.full((d_out,), float(bias) / lr))
        self.scale, self.lr = lr / math.sqrt(d_in), lr

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.scale, self.bias * self.lr)


def blur(x: Tensor, pad: tuple[int, int], gain: float = 1.0) -> Tensor:
    """Low-pass filter [1, 3, 3, 1] along rows and columns after zero padding (before, after) of each side."""
    taps = x.new_tensor([1, 3, 3, 1]) / 8
    kernel = (gain * taps[:, None] * taps).expand(x.shape[1], 1, 4, 4)
    return F.conv2d(F.pad(x, (*pad, *pad)), kernel, groups=x.shape[1])


def upsample(x: Tensor) -> Tensor:
    """Twice the size: zeros in between, then the low-pass filter."""
    b, c, h, w = x.shape
    spread = x.new_zeros(b, c, h, 2, w, 2)
    spread[:, :, :, 0, :, 0] = x
    return blur(spread.reshape(b, c, 2 * h, 2 * w), pad=(2, 1), gain=4)


def modulated_conv(
    x: Tensor, weight: Tensor, style: Tensor, demodulate: bool = True, padding: int = 0, stride_up: int = 1
) -> Tensor:
    """Convolution whose weights are scaled per image and input channel by a style (Karras et al. 2020, eqs. 1 and 3).

    x: [B, c_in, h, w], weight: [c_out, c_in, k, k], style: [B, c_in]. `demodulate` divides each image's weights by their norm
    per output channel. With stride_up 2 zeros are put between the pixels first, and weight acts as a true convolution: the
    result has 2 h + k - 2 rows and still needs its low-pass filter. No weights per image are built: scaling a weight's input
    channels is scaling the input, and dividing its output channels is dividing the output.
    """
    style = style.to(weight.dtype)  # autocast makes styles in half precision, which would not hold the norm
    x = x * style[:, :, None, None].to(x.dtype)
    if stride_up == 1:
        x = F.conv2d(x, weight, padding=padding)
    else:
        x = F.conv_transpose2d(x, weight.transpose(0, 1), stride=stride_up)
    if demodulate:
        norm = (style.square() @ weight.square().sum((2, 3)).T + 1e-8).rsqrt()
        x = x * norm[:, :, None, None].to(x.dtype)
    return x


class ModulatedConv2d(nn.Module):
    """Modulated convolution with its weights, which also makes the style of each image from w."""

    def __init__(self, c_in: int, c_out: int, size: int, d_style: int, up: bool = False, demodulate: bool = True):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(c_out, c_in, size, size))
        self.affine = EqualLinear(d_style, c_in, bias=1)
        self.scale, self.up, self.demodulate, self.pad = 1 / math.sqrt(c_in * size**2), up, demodulate, size // 2

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """x: [B, c_in, h, w]; w: styles [B, d_style] -> [B, c_out, h, w], twice the size with `up`."""
        style, weight = self.affine(w), self.weight * self.scale
        if self.up:
            return blur(modulated_conv(x, weight.flip(2, 3), style, self.demodulate, stride_up=2), pad=(1, 1), gain=4)
        return modulated_conv(x, weight, style, self.demodulate, self.pad)


class Noise(nn.Module):
    """Adds one noise image to all channels: "random" anew, "fixed" always the same, or "none"."""

    def __init__(self, size: int):
        super().__init__()
        self.strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("fixed", torch.randn(size, size))

    def forward(self, x: Tensor, mode: str) -> Tensor:
        if mode == "none":
            return x
        noise = torch.randn(len(x), 1, *x.shape[2:], device=x.device) if mode == "random" else self.fixed
        return x + (self.strength * noise).to(x.dtype)


class Activate(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return activate(x + self.bias[:, None, None].to(x.dtype))


class StyledConv(nn.Module):
    """Modulated convolution, noise, bias and leaky ReLU: one layer of the synthesis network."""

    def __init__(self, c_in: int, c_out: int, size: int, d_style: int, up: bool = False):
        super().__init__()
        self.conv = ModulatedConv2d(c_in, c_out, 3, d_style, up)
        self.noise = Noise(size)
        self.activate = Activate(c_out)

    def forward(self, x: Tensor, w: Tensor, noise: str) -> Tensor:
        return self.activate(self.noise(self.conv(x, w), noise))


class ToRGB(nn.Module):
    def __init__(self, c_in: int, d_style: int):
        super().__init__()
        self.conv = ModulatedConv2d(c_in, 3, 1, d_style, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        return self.conv(x, w).float() + self.bias[:, None, None]


class Mapping(nn.Module):
    """z [B, d] and class weights [B, kinds] -> styles w [B, d]."""

    def __init__(self, d: int, kinds: int, layers: int = 4):
        super().__init__()
        self.embed = EqualLinear(kinds, d) if kinds else None
        self.layers = nn.ModuleList(EqualLinear(d * (2 if kinds and k == 0 else 1), d, lr=0.01) for k in range(layers))
        self.register_buffer("w_mean", torch.zeros(max(kinds, 1), d))  # running means, for truncation

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        x = unit_scale(z)
        if self.embed is not None:
            x = torch.cat([x, unit_scale(self.embed(c))], 1)
        for layer in self.layers:
            x = activate(layer(x))
        return x

    def truncate(self, w: Tensor, c: Tensor | None, psi: float) -> Tensor:
        """Pull styles towards the mean style (of their class): psi 1 changes nothing, psi 0 gives the mean."""
        mean = self.w_mean if c is None else c @ self.w_mean
        return mean + psi * (w - mean)


class Synthesis(nn.Module):
    """Styles, one per layer [B, n_styles, d] (or one for all, [B, d]) -> images [B, 3, 64, 64], about -1..1."""

    def __init__(self, d: int, channels: dict[int, int] = CHANNELS):
        super().__init__()
        sizes = list(channels)
        self.constant = nn.Parameter(torch.randn(1, channels[4], 4, 4))
        self.convs = nn.ModuleList([StyledConv(channels[4], channels[4], 4, d)])
        self.to_rgbs = nn.ModuleList([ToRGB(channels[4], d)])
        for below, size in zip(sizes, sizes[1:]):
            self.convs.append(StyledConv(channels[below], channels[size], size, d, up=True))
            self.convs.append(StyledConv(channels[size], channels[size], size, d))
            self.to_rgbs.append(ToRGB(channels[size], d))
        self.n_styles = len(self.convs) + 1  # a ToRGB shares the style of the next convolution; the last has its own

    def forward(self, ws: Tensor, noise: str = "random") -> Tensor:
        if ws.ndim == 2:
            ws = ws[:, None].expand(-1, self.n_styles, -1)
        if noise not in ("random", "fixed", "none"):
            raise ValueError(f"noise must be 'random', 'fixed' or 'none', got {noise!r}")
        x = self.convs[0](self.constant.expand(len(ws), -1, -1, -1), ws[:, 0], noise)
        image = self.to_rgbs[0](x, ws[:, 1])
        for k, to_rgb in enumerate(self.to_rgbs[1:], 1):
            x = self.convs[2 * k - 1](x, ws[:, 2 * k - 1], noise)
            x = self.convs[2 * k](x, ws[:, 2 * k], noise)
            image = upsample(image) + to_rgb(x, ws[:, 2 * k + 1])
        return image


class StyleGenerator(nn.Module):
    """z [B, d_z], class weights [B, kinds] (None without classes) -> images [B, 3, 64, 64], about -1..1."""

    def __init__(self, kinds: int, d_z: int = 64, channels: dict[int, int] = CHANNELS):
        super().__init__()
        self.d_z, self.kinds = d_z, kinds
        self.mapping = Mapping(d_z, kinds)
        self.synthesis = Synthesis(d_z, channels)

    def forward(self, z: Tensor, c: Tensor | None = None, truncation: float = 1.0, noise: str = "random") -> Tensor:
        w = self.mapping(z, c)
        return self.synthesis(self.mapping.truncate(w, c, truncation), noise)
