"""The arithmetic that style generators share: activations, modulated convolutions, changes of size through low-pass filters."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Padding = tuple[int, int, int, int]  # left, right, top, bottom; negative numbers crop


def activate(x: Tensor) -> Tensor:
    """Leaky ReLU, times sqrt(2) to keep the variance."""
    return F.leaky_relu(x, 0.2) * math.sqrt(2)


def limited(x: Tensor, limit: float | None) -> Tensor:
    """Cut off at +-limit, unless it is None."""
    return x if limit is None else x.clamp(-limit, limit)


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


def standard_filter() -> Tensor:
    """The low-pass filter [4, 4] with rows and columns [1, 3, 3, 1], sum 1."""
    taps = torch.tensor([1.0, 3, 3, 1])
    return taps[:, None] * taps / 64


def filter_up(x: Tensor, taps: Tensor | None, up: int = 1, padding: Padding = (0, 0, 0, 0), gain: float = 1.0) -> Tensor:
    """Put up - 1 zeros behind each pixel, pad, and convolve: [B, C, h, w] -> [B, C, up h + top + bottom - k + 1, ...].

    taps: [k, k], or [k] for a separable filter, or None for none (then up is 1). Padding counts pixels of the larger image.
    """
    if taps is None:
        return F.pad(x, padding)
    left, right, top, bottom = padding
    if taps.ndim == 1:
        x = _spread(x, taps[None], 1, up, (left, right, 0, 0))
        return _spread(x, gain * taps[:, None], up, 1, (0, 0, top, bottom))
    return _spread(x, gain * taps, up, up, padding)


def _spread(x: Tensor, kernel: Tensor, up_y: int, up_x: int, padding: Padding) -> Tensor:
    (rows, columns), (height, width) = kernel.shape, x.shape[2:]
    left, right, top, bottom = padding
    full = F.conv_transpose2d(x, _each(kernel, x), stride=(up_y, up_x), groups=x.shape[1])
    # The transposed convolution is the one with k - 1 pixels of padding and without the zeros behind the last pixel.
    left, top = left - columns + 1, top - rows + 1
    right = up_x * width + padding[0] + right - columns + 1 - full.shape[3] - left
    bottom = up_y * height + padding[2] + bottom - rows + 1 - full.shape[2] - top
    return F.pad(full, (left, right, top, bottom))


def _each(kernel: Tensor, x: Tensor) -> Tensor:
    """The same kernel [h, w] for each channel of x."""
    return kernel.to(x.dtype).expand(x.shape[1], 1, -1, -1)


def filter_down(x: Tensor, taps: Tensor | None, down: int = 1, padding: Padding = (0, 0, 0, 0)) -> Tensor:
    """Pad, convolve with taps ([k, k], [k] or None as in `filter_up`), and keep every down-th pixel from the first."""
    x = F.pad(x, padding)
    if taps is None:
        return x
    taps = taps.flip(tuple(range(taps.ndim)))  # torch correlates
    if taps.ndim == 1:
        x = F.conv2d(x, _each(taps[None], x), stride=(1, down), groups=x.shape[1])
        return F.conv2d(x, _each(taps[:, None], x), stride=(down, 1), groups=x.shape[1])
    return F.conv2d(x, _each(taps, x), stride=down, groups=x.shape[1])


def filtered_leaky_relu(
    x: Tensor, up_taps: Tensor, down_taps: Tensor, up: int, down: int, padding: Padding, limit: float | None
) -> Tensor:
    """Leaky ReLU at a higher sampling rate, so that it makes no frequencies that the grid cannot hold (Karras et al. 2021, 3.2).

    Enlarge by `up` with up_taps, apply the leaky ReLU times sqrt(2), cut off at +-limit, shrink by `down` with down_taps.
    """
    x = filter_up(x, up_taps, up, padding, gain=up**2)
    return filter_down(limited(activate(x), limit), down_taps, down)


def kaiser_taps(count: int, cutoff: float, width: float, rate: float) -> Tensor:
    """Low-pass filter [count] with sum 1: a sinc under a Kaiser window (Karras et al. 2021, appendix C.1).

    cutoff: the frequency that is halved; width: of the transition band around it; rate: the sampling rate, in the same unit.
    """
    from scipy.signal import firwin  # a second of every start, which few need

    return torch.tensor(firwin(count, cutoff, width=width, fs=rate), dtype=torch.float32)
