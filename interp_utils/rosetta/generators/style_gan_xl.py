"""StyleGAN-XL, written from the papers, with the parameter names of its public weights.

Karras et al., "Alias-Free Generative Adversarial Networks" (2021), configuration T: Fourier features, layers that treat maps as
samples of a continuous signal, with a margin around the image. Sauer et al., "StyleGAN-XL" (2022): a small z, class embeddings of
a classifier, and growth, where each stage keeps the layers of the one before except the last three and adds its own.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .ops import EqualLinear, activate, filter_up, filtered_leaky_relu, kaiser_taps, limited, modulated_conv, unit_scale

MARGIN = 10  # pixels around the image that maps carry on each side
CRITICAL = 2  # layers at the end of a stage that use the whole band of the grid
TAPS = 6  # taps of a filter, per unit of its factor


@dataclass(frozen=True)
class StyleGANXLConfig:
    """Sizes of a StyleGAN-XL generator; the defaults are those for ImageNet at 256 pixels."""

    stages: tuple[int, ...] = (16, 32, 64, 128, 256)  # image sizes of the growth
    stem_layers: int = 10
    head_layers: int = 7
    d_z: int = 64
    d: int = 512  # of w
    kinds: int = 1000
    d_class: int = 320  # of the class embeddings, means of an EfficientNet-lite0's features
    most_channels: int = 1024
    base: int = 65536
    clamp: float | None = 256.0  # activations are cut off at +-clamp


@dataclass(frozen=True)
class Signal:
    """What a map stands for: sampling rate, cut-off and half transition band of its content, its size and channels."""

    rate: int
    cutoff: float
    half_width: float
    size: int
    channels: int


@dataclass(frozen=True)
class LayerPlan:
    name: str
    before: Signal
    after: Signal
    to_rgb: bool


def _signals(config: StyleGANXLConfig, size: int, n_layers: int, start: Signal | None) -> list[Signal]:
    """The signals behind each layer of a stage, and at last the image: cut-offs grow geometrically (Karras et al. 2021, 3.2)."""
    cutoff, stopband = (2.0, 2**2.1) if start is None else (start.cutoff, start.cutoff + start.half_width)
    progress = np.minimum(np.arange(n_layers + 1) / (n_layers - CRITICAL), 1)
    cutoffs = cutoff * (size / 2 / cutoff) ** progress
    stopbands = stopband * (size / 2 * 2**0.3 / stopband) ** progress
    rates = np.exp2(np.ceil(np.log2(np.minimum(2 * stopbands, size)))).astype(int)
    channels = np.rint(np.minimum(config.base / 2 / cutoffs, config.most_channels)).astype(int)
    if start is not None:
        rates[0], channels[0] = start.rate, start.channels
    channels[-1] = 3
    half_widths = np.maximum(stopbands, rates / 2) - cutoffs
    sizes = rates + 2 * MARGIN
    sizes[-2:] = size
    rows = zip(rates, cutoffs, half_widths, sizes, channels)
    return [Signal(int(rate), float(cut), float(half), int(side), int(count)) for rate, cut, half, side, count in rows]


def plan(config: StyleGANXLConfig) -> tuple[Signal, list[LayerPlan]]:
    """The signal of the Fourier features, and all layers in order, named as in the public weights.

    A stage drops the last three layers of the one before; its own numbers start one too high, so numbers are skipped.
    """
    first, last, layers = None, None, []
    for size in config.stages:
        n_layers = config.stem_layers if last is None else config.head_layers
        signals = _signals(config, size, n_layers, last)
        first = first or signals[0]
        offset = len(layers) + 1 if last else 0
        for k, after in enumerate(signals):
            name = f"L{offset + k}_{after.size}_{after.channels}"
            layers.append(LayerPlan(name, signals[max(k - 1, 0)], after, to_rgb=k == n_layers))
        if size != config.stages[-1]:
            del layers[-1 - CRITICAL :]
            last = layers[-1].after
    return first, layers


class Mapping(nn.Module):
    """z [B, d_z] and class weights [B, kinds] -> styles w [B, n_styles, d], pulled towards the mean style of the class."""

    def __init__(self, config: StyleGANXLConfig, n_styles: int):
        super().__init__()
        self.n_styles = n_styles
        self.embed = nn.Embedding(config.kinds, config.d_class)
        self.embed_proj = EqualLinear(config.d_class, config.d_z)
        self.fc0 = EqualLinear(2 * config.d_z, config.d, lr=0.01)
        self.fc1 = EqualLinear(config.d, config.d, lr=0.01)
        self.register_buffer("w_avg", torch.zeros(config.kinds, config.d))

    def forward(self, z: Tensor, c: Tensor, psi: float = 1.0) -> Tensor:
        """psi: 1 changes nothing, 0 gives the mean style of the class."""
        kind = activate(self.embed_proj(c @ self.embed.weight))
        w = torch.cat([unit_scale(z), unit_scale(kind)], 1)
        w = activate(self.fc1(activate(self.fc0(w))))
        mean = c @ self.w_avg
        return (mean + psi * (w - mean))[:, None].expand(-1, self.n_styles, -1)


class FourierInput(nn.Module):
    """A style rotates and shifts fixed sine waves [B, channels, size, size] (Karras et al. 2021, appendix F)."""

    def __init__(self, signal: Signal, d: int):
        super().__init__()
        self.signal = signal
        waves = torch.randn(signal.channels, 2)
        radius = waves.norm(dim=1, keepdim=True)
        waves = waves / (radius * (radius.square() / 4).exp()) * signal.cutoff  # uniform in a disc
        self.weight = nn.Parameter(torch.randn(signal.channels, signal.channels))
        self.affine = EqualLinear(d, 4)
        nn.init.zeros_(self.affine.weight)
        with torch.no_grad():
            self.affine.bias.copy_(torch.tensor([1.0, 0, 0, 0]))
        self.register_buffer("transform", torch.eye(3))  # to move the image by hand
        self.register_buffer("freqs", waves)
        self.register_buffer("phases", torch.rand(signal.channels) - 0.5)

    def forward(self, w: Tensor) -> Tensor:
        pose = self.affine(w)
        cos, sin, x, y = (pose / pose[:, :2].norm(dim=1, keepdim=True)).unbind(1)
        zero, one = torch.zeros_like(cos), torch.ones_like(cos)
        rows = ((cos, -sin, zero), (sin, cos, zero), (zero, zero, one))
        rotation = torch.stack([torch.stack(row, -1) for row in rows], -2)  # [B, 3, 3]
        rows = ((one, zero, -x), (zero, one, -y), (zero, zero, one))
        transform = rotation @ torch.stack([torch.stack(row, -1) for row in rows], -2) @ self.transform
        phases = self.phases + (self.freqs @ transform[:, :2, 2:])[..., 0]  # [B, channels]
        waves = self.freqs @ transform[:, :2, :2]  # [B, channels, 2]
        # Waves that left the band, as after a zoom by hand, fade out instead of aliasing.
        beyond = (waves.norm(dim=2) - self.signal.cutoff) / (self.signal.rate / 2 - self.signal.cutoff)
        place = (torch.arange(self.signal.size, device=w.device, dtype=w.dtype) + 0.5 - self.signal.size / 2) / self.signal.rate
        angle = waves[:, :, :1, None] * place + (waves[:, :, 1:] * place)[..., None] + phases[:, :, None, None]
        features = (2 * math.pi * angle).sin() * (1 - beyond).clamp(0, 1)[:, :, None, None]
        return torch.einsum("oc,bchw->bohw", self.weight / math.sqrt(len(self.weight)), features)


class Layer(nn.Module):
    """Modulated convolution and a leaky ReLU at a higher rate; the last one gives RGB and has neither norm nor ReLU."""

    def __init__(self, layer: LayerPlan, d: int):
        super().__init__()
        before, after, self.to_rgb = layer.before, layer.after, layer.to_rgb
        kernel = 1 if self.to_rgb else 3
        self.affine = EqualLinear(d, before.channels, bias=1)
        self.weight = nn.Parameter(torch.randn(after.channels, before.channels, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(after.channels))
        self.register_buffer("magnitude_ema", torch.ones(()))  # mean square of what came in, during training
        rate = max(before.rate, after.rate) * (1 if self.to_rgb else 2)  # at which the leaky ReLU acts
        self.up, self.down = rate // before.rate, rate // after.rate
        up_taps = down_taps = None
        if not self.to_rgb:
            up_taps = kaiser_taps(TAPS * self.up, before.cutoff, 2 * before.half_width, rate)
            down_taps = kaiser_taps(TAPS * self.down, after.cutoff, 2 * after.half_width, rate)
        self.register_buffer("up_filter", up_taps)
        self.register_buffer("down_filter", down_taps)
        # Pixels to add at the high rate so that the filters, which shrink a map, end at the size wanted and keep its centre.
        lost = sum(len(taps) - 1 for taps in (up_taps, down_taps) if taps is not None)
        total = (after.size - 1) * self.down + 1 + lost - (before.size + kernel - 1) * self.up
        low = (total + self.up) // 2
        self.padding = (low, total - low) * 2

    def forward(self, x: Tensor, w: Tensor, clamp: float | None) -> Tensor:
        # Made again for the gradient: what all layers would keep takes 24 GiB an image. Hooks on the layer run once.
        return checkpoint(self._run, x, w, clamp, use_reentrant=False, preserve_rng_state=False)

    def _run(self, x: Tensor, w: Tensor, clamp: float | None) -> Tensor:
        style, weight = self.affine(w), self.weight
        if self.to_rgb:
            style = style / math.sqrt(weight.shape[1])
        else:  # the norms cancel in the demodulation, but keep its numbers in range
            weight = weight * weight.square().mean((1, 2, 3), keepdim=True).rsqrt()
            style = unit_scale(style)
        x = modulated_conv(x, weight, style, demodulate=not self.to_rgb, padding=weight.shape[-1] - 1)
        x = x * self.magnitude_ema.rsqrt() + self.bias[:, None, None]
        if self.to_rgb:
            return limited(filter_up(x, None, padding=self.padding), clamp)
        return filtered_leaky_relu(x, self.up_filter, self.down_filter, self.up, self.down, self.padding, clamp)


class Synthesis(nn.Module):
    """Styles [B, n_styles, d] -> images [B, 3, size, size], about -1..1.

    clamp: where activations are cut off; `load_weights` sets it to what the file's generator was trained with.
    """

    def __init__(self, config: StyleGANXLConfig):
        super().__init__()
        first, layers = plan(config)
        self.plan, self.n_styles, self.clamp = layers, len(layers) + 1, config.clamp
        self.input = FourierInput(first, config.d)
        for layer in layers:
            self.add_module(layer.name, Layer(layer, config.d))

    def forward(self, ws: Tensor) -> Tensor:
        x = self.input(ws[:, 0])
        for k, layer in enumerate(self.plan, 1):
            x = getattr(self, layer.name)(x, ws[:, k], self.clamp)
        return x / 4


class StyleGANXL(nn.Module):
    """z [B, d_z] and class weights [B, kinds] -> images [B, 3, size, size], about -1..1: `synthesis(mapping(z, c, psi))`."""

    def __init__(self, config: StyleGANXLConfig = StyleGANXLConfig()):
        super().__init__()
        self.config = config
        self.synthesis = Synthesis(config)
        self.mapping = Mapping(config, self.synthesis.n_styles)

    def forward(self, z: Tensor, c: Tensor, psi: float = 1.0) -> Tensor:
        return self.synthesis(self.mapping(z, c, psi))
