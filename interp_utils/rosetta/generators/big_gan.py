"""BigGAN-deep, written from the paper, with the parameter names of its public PyTorch weights.

Brock et al., "Large Scale GAN Training for High Fidelity Natural Image Synthesis" (2019), appendix B: every residual block
gets z and the class, bottlenecks of a quarter of the channels, and blocks that lose channels keep the first ones on their skip.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import spectral_norm


@dataclass(frozen=True)
class BigGANConfig:
    """Sizes of a BigGAN-deep generator; the defaults are those for 256 pixels."""

    blocks: tuple[tuple[int, int, bool], ...] = (  # channels in and out as multiples of `width`, and whether it doubles the size
        (16, 16, False), (16, 16, True), (16, 16, False), (16, 8, True), (8, 8, False), (8, 8, True),
        (8, 8, False), (8, 4, True), (4, 4, False), (4, 2, True), (2, 2, False), (2, 1, True),
    )  # fmt: skip
    attention: int = 8  # the block before which self-attention stands
    width: int = 128
    d_z: int = 128  # of z and of the class embedding
    kinds: int = 1000
    n_stats: int = 51  # truncations 0, 0.02, ..., 1 for which the batch norms know means and variances
    eps: float = 1e-4


def _normalised(module: nn.Module, eps: float) -> nn.Module:
    """Spectral norm, with singular vectors that fit random weights too (in eval mode nothing would ever improve them)."""
    module = spectral_norm(module, eps=eps)
    if module.weight_orig.is_meta:  # nothing to fit, and slow
        return module
    with torch.no_grad():
        matrix = module.weight_orig.flatten(1)
        for _ in range(10):
            module.weight_v.copy_(F.normalize(matrix.T @ module.weight_u, dim=0, eps=eps))
            module.weight_u.copy_(F.normalize(matrix @ module.weight_v, dim=0, eps=eps))
    return module


def _conv(c_in: int, c_out: int, size: int, eps: float, bias: bool = True) -> nn.Module:
    return _normalised(nn.Conv2d(c_in, c_out, size, padding=size // 2, bias=bias), eps)


class TruncationNorm(nn.Module):
    """Batch norm with statistics for each truncation; gain and bias are learned, or linear in a condition [B, D]."""

    def __init__(self, channels: int, config: BigGANConfig, conditional: bool = True):
        super().__init__()
        self.eps = config.eps
        self.register_buffer("running_means", torch.zeros(config.n_stats, channels))
        self.register_buffer("running_vars", torch.ones(config.n_stats, channels))
        if conditional:
            self.scale = _normalised(nn.Linear(2 * config.d_z, channels, bias=False), config.eps)
            self.offset = _normalised(nn.Linear(2 * config.d_z, channels, bias=False), config.eps)
        else:
            self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, truncation: float, condition: Tensor | None = None) -> Tensor:
        place = truncation * (len(self.running_means) - 1)
        low = min(int(place), len(self.running_means) - 2)
        mean, var = (torch.lerp(stats[low], stats[low + 1], place - low) for stats in (self.running_means, self.running_vars))
        if condition is None:
            gain, bias = self.weight, self.bias
        else:
            gain, bias = 1 + self.scale(condition), self.offset(condition)
        gain = gain * (var + self.eps).rsqrt()
        bias = bias - mean * gain
        return x * gain[..., None, None] + bias[..., None, None]


class Block(nn.Module):
    """Residual block: 1 x 1, 3 x 3, 3 x 3 and 1 x 1 convolution, each after a norm and a ReLU."""

    def __init__(self, c_in: int, c_out: int, up: bool, config: BigGANConfig):
        super().__init__()
        inner, self.up, self.c_out = c_in // 4, up, c_out
        sizes = ((c_in, inner, 1), (inner, inner, 3), (inner, inner, 3), (inner, c_out, 1))
        for k, (before, after, size) in enumerate(sizes):
            self.add_module(f"bn_{k}", TruncationNorm(before, config))
            self.add_module(f"conv_{k}", _conv(before, after, size, config.eps))

    def forward(self, x: Tensor, truncation: float, condition: Tensor) -> Tensor:
        h = self.conv_0(F.relu(self.bn_0(x, truncation, condition)))
        h = F.relu(self.bn_1(h, truncation, condition))
        h = self.conv_1(F.interpolate(h, scale_factor=2) if self.up else h)
        h = self.conv_2(F.relu(self.bn_2(h, truncation, condition)))
        h = self.conv_3(F.relu(self.bn_3(h, truncation, condition)))
        skip = x[:, : self.c_out]
        return h + (F.interpolate(skip, scale_factor=2) if self.up else skip)


class SelfAttention(nn.Module):
    """Each place attends to all places of the map at half its size (Zhang et al. 2019)."""

    def __init__(self, channels: int, eps: float):
        super().__init__()
        self.snconv1x1_theta = _conv(channels, channels // 8, 1, eps, bias=False)
        self.snconv1x1_phi = _conv(channels, channels // 8, 1, eps, bias=False)
        self.snconv1x1_g = _conv(channels, channels // 2, 1, eps, bias=False)
        self.snconv1x1_o_conv = _conv(channels // 2, channels, 1, eps, bias=False)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        queries = self.snconv1x1_theta(x).flatten(2)
        keys = F.max_pool2d(self.snconv1x1_phi(x), 2).flatten(2)
        values = F.max_pool2d(self.snconv1x1_g(x), 2).flatten(2)
        pattern = torch.einsum("bcq,bck->bqk", queries, keys).softmax(-1)  # scores are not divided by sqrt(c)
        found = torch.einsum("bqk,bck->bcq", pattern, values).unflatten(2, x.shape[2:])
        return x + self.gamma * self.snconv1x1_o_conv(found)


class _Body(nn.Module):
    def __init__(self, config: BigGANConfig):
        super().__init__()
        width = config.width
        self.gen_z = _normalised(nn.Linear(2 * config.d_z, 16 * config.blocks[0][0] * width), config.eps)
        layers = [Block(a * width, b * width, up, config) for a, b, up in config.blocks]
        layers.insert(config.attention, SelfAttention(config.blocks[config.attention][0] * width, config.eps))
        self.layers = nn.ModuleList(layers)
        last = config.blocks[-1][1] * width
        self.bn = TruncationNorm(last, config, conditional=False)
        self.conv_to_rgb = _conv(last, last, 3, config.eps)  # the public weights have as many outputs as inputs; three are used

    def forward(self, condition: Tensor, truncation: float) -> Tensor:
        x = self.gen_z(condition).unflatten(1, (4, 4, -1)).movedim(3, 1).contiguous()  # channels come last in gen_z
        for layer in self.layers:
            x = layer(x) if isinstance(layer, SelfAttention) else layer(x, truncation, condition)
        return self.conv_to_rgb(F.relu(self.bn(x, truncation)))[:, :3].tanh()


class BigGAN(nn.Module):
    """z [B, d_z] and class weights [B, kinds] -> images [B, 3, H, W] in -1..1.

    `condition(z, c)` [B, 2 d_z] is what all layers see (there is no mapping network), and `generator(condition, truncation)`
    draws from it. truncation picks the statistics of the batch norms, 0..1; it does not change z.
    """

    def __init__(self, config: BigGANConfig = BigGANConfig()):
        super().__init__()
        self.config = config
        self.embeddings = nn.Linear(config.kinds, config.d_z, bias=False)
        self.generator = _Body(config)

    def condition(self, z: Tensor, c: Tensor) -> Tensor:
        return torch.cat([z, self.embeddings(c)], 1)

    def forward(self, z: Tensor, c: Tensor, truncation: float = 1.0) -> Tensor:
        if not 0 <= truncation <= 1:
            raise ValueError(f"truncation must lie in 0..1, got {truncation}")
        return self.generator(self.condition(z, c), truncation)
