"""Changes of size through low-pass filters, which the style generators share."""

import math

import torch
import torch.nn.functional as F
from scipy.signal import firwin
from torch import Tensor

Padding = tuple[int, int, int, int]  # left, right, top, bottom; negative numbers crop


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
    x: Tensor, up_taps: Tensor, down_taps: Tensor, up: int, down: int, padding: Padding, limit: float = 256.0
) -> Tensor:
    """Leaky ReLU at a higher sampling rate, so that it makes no frequencies that the grid cannot hold (Karras et al. 2021, 3.2).

    Enlarge by `up` with up_taps, apply the leaky ReLU times sqrt(2), cut off at +-limit, shrink by `down` with down_taps.
    """
    x = filter_up(x, up_taps, up, padding, gain=up**2)
    x = (F.leaky_relu(x, 0.2) * math.sqrt(2)).clamp(-limit, limit)
    return filter_down(x, down_taps, down)


def kaiser_taps(count: int, cutoff: float, width: float, rate: float) -> Tensor:
    """Low-pass filter [count] with sum 1: a sinc under a Kaiser window (Karras et al. 2021, appendix C.1).

    cutoff: the frequency that is halved; width: of the transition band around it; rate: the sampling rate, in the same unit.
    """
    return torch.tensor(firwin(count, cutoff, width=width, fs=rate), dtype=torch.float32)
