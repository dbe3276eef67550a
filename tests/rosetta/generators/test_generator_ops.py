import math

import numpy as np
import pytest
import scipy.signal
import torch
import torch.nn.functional as F

from interp_utils.rosetta.generators import ops


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def direct_fir(image, kernel, up=1, down=1, padding=(0, 0, 0, 0)):
    """Zeros behind each pixel, padding (or cropping), a true convolution, every down-th pixel: numpy and scipy alone."""
    h, w = image.shape
    spread = np.zeros((h * up, w * up))
    spread[::up, ::up] = image
    left, right, top, bottom = padding
    spread = np.pad(spread, ((max(top, 0), max(bottom, 0)), (max(left, 0), max(right, 0))))
    rows, columns = spread.shape
    spread = spread[max(-top, 0) : rows - max(-bottom, 0), max(-left, 0) : columns - max(-right, 0)]
    return scipy.signal.convolve2d(spread, kernel, mode="valid")[::down, ::down]


TAPS = draw(4, seed=1)
PADDINGS = [(2, 1, 2, 1), (3, 4, 5, 6), (0, 0, 0, 0), (-1, 2, 1, -2)]


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("up", [1, 2, 4])
@pytest.mark.parametrize("taps", [TAPS, draw(3, 5, seed=2)], ids=["separable", "two axes"])
def test_enlarging_is_zero_insertion_and_a_direct_filter(taps, up, padding):
    x = draw(2, 3, 7, 6)
    kernel = (torch.outer(taps, taps) if taps.ndim == 1 else taps).numpy()
    found = ops.filter_up(x, taps, up, padding, gain=2.5)
    for b in range(2):
        for c in range(3):
            expected = 2.5 * direct_fir(x[b, c].numpy(), kernel, up=up, padding=padding)
            np.testing.assert_allclose(found[b, c].numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("down", [1, 2, 4])
@pytest.mark.parametrize("taps", [TAPS, draw(3, 5, seed=2)], ids=["separable", "two axes"])
def test_shrinking_is_a_direct_filter_and_every_nth_pixel(taps, down, padding):
    x = draw(2, 3, 13, 12)
    kernel = (torch.outer(taps, taps) if taps.ndim == 1 else taps).numpy()
    found = ops.filter_down(x, taps, down, padding)
    for b in range(2):
        for c in range(3):
            expected = direct_fir(x[b, c].numpy(), kernel, down=down, padding=padding)
            np.testing.assert_allclose(found[b, c].numpy(), expected, atol=1e-12)


def test_without_a_filter_maps_are_padded_or_cropped():
    x = draw(1, 1, 4, 4)
    for change in (ops.filter_up, ops.filter_down):
        found = change(x, None, padding=(1, -1, -2, 0))
        assert found.shape == (1, 1, 2, 4) and torch.equal(found[..., 1:], x[..., 2:, :3]) and not found[..., 0].any()


@pytest.mark.parametrize("count, cutoff, width, rate", [
    (12, 2.0, 4.6, 32), (12, 8.0, 3.4, 64), (24, 30.0, 20.0, 512), (6, 100.0, 56.0, 512), (13, 5.0, 90.0, 64), (48, 4.0, 9.0, 64),
])  # fmt: skip
def test_kaiser_filter_is_scipys(count, cutoff, width, rate):
    expected = scipy.signal.firwin(count, cutoff, width=width, fs=rate)
    torch.testing.assert_close(ops.kaiser_taps(count, cutoff, width, rate).double(), torch.tensor(expected), atol=1e-7, rtol=0)


def test_filtered_leaky_relu_step_by_step():
    x, up_taps, down_taps = 30 * draw(1, 1, 6, 6), ops.kaiser_taps(12, 2, 4, 16), ops.kaiser_taps(24, 2, 4, 32)
    found = ops.filtered_leaky_relu(x, up_taps, down_taps, up=2, down=4, padding=(15, 14, 15, 14), limit=15.0)
    high = 4 * direct_fir(x[0, 0].numpy(), np.outer(up_taps, up_taps), up=2, padding=(15, 14, 15, 14))
    bent = np.clip(np.where(high > 0, high, 0.2 * high) * math.sqrt(2), -15, 15)
    assert np.abs(bent).max() == 15 and bent.min() < 0  # all branches are taken
    np.testing.assert_allclose(found[0, 0].numpy(), direct_fir(bent, np.outer(down_taps, down_taps), down=4), atol=1e-4)


def weights_per_image(weight, style, demodulate):
    """Eqs. 1 and 3 of the StyleGAN2 paper, as they stand."""
    scaled = style[:, None, :, None, None] * weight
    if demodulate:
        scaled = scaled / (scaled.square().sum((2, 3, 4), keepdim=True) + 1e-8).sqrt()
    return scaled


@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("size", [1, 3])
def test_modulated_convolution_has_weights_of_its_own_for_each_image(demodulate, size):
    x, weight, style = draw(3, 4, 5, 6), draw(2, 4, size, size, seed=1), draw(3, 4, seed=2)
    found = ops.modulated_conv(x, weight, style, demodulate, padding=2)
    for image, w, expected in zip(x, weights_per_image(weight, style, demodulate), found):
        torch.testing.assert_close(F.conv2d(image[None], w, padding=2)[0], expected)


@pytest.mark.parametrize("demodulate", [True, False])
def test_modulated_convolution_that_doubles_the_size(demodulate):
    x, weight, style = draw(2, 3, 4, 5), draw(2, 3, 3, 3, seed=1), draw(2, 3, seed=2)
    found = ops.modulated_conv(x, weight, style, demodulate, stride_up=2)
    for b, w in enumerate(weights_per_image(weight, style, demodulate)):
        for o in range(2):
            # All of the full convolution but the last row and column, which only see the zeros behind the last pixels.
            parts = [direct_fir(x[b, i].numpy(), w[o, i].numpy(), up=2, padding=(2, 1, 2, 1)) for i in range(3)]
            np.testing.assert_allclose(found[b, o].numpy(), sum(parts), atol=1e-12)


def test_upsampling_keeps_what_is_flat_and_smooths_the_rest():
    flat, taps = torch.ones(1, 2, 6, 6), ops.standard_filter()
    torch.testing.assert_close(ops.filter_up(flat, taps, 2, (2, 1, 2, 1), gain=4)[..., 2:-2, 2:-2], torch.ones(1, 2, 8, 8))
    point = torch.zeros(1, 1, 5, 5)
    point[..., 2, 2] = 1
    torch.testing.assert_close(ops.filter_up(point, taps, 2, (2, 1, 2, 1), gain=4)[0, 0, 3:7, 3:7], 4 * taps)
