"""What `test_other_device.py` asks of a process on the other device: not collected otherwise."""

import os

import numpy as np
import other_device
import pytest
import torch

import interp_utils as iu


def test_numbers_of_the_device():
    """Numbers for the CPU to compare with; no operation mixes the devices."""
    clip, path = iu.load_clip("sandbox"), os.environ["INTERP_TEST_NUMBERS"]
    pixels = torch.load(path)
    moved = pixels.to(clip.device).requires_grad_()
    slope = torch.autograd.grad(clip.encode_image(moved)[:, 0].sum(), moved)[0]
    found = iu.heads.direct_effects(clip, pixels).heads(), iu.neurons.second_order(clip, 7).norms(pixels), slope
    assert all(each.device == other_device.DEVICE for each in found)
    rows = found[1][:, :2]
    for mixed in (
        lambda: rows + rows.cpu(),
        lambda: rows @ torch.ones(2, 2),
        lambda: torch.arange(9)[rows.argmax(0)],
        lambda: torch.stack([rows, rows.cpu()]),
        lambda: np.asarray(rows),
    ):
        with pytest.raises((RuntimeError, TypeError)):
            mixed()
    rows[torch.tensor([0])] = 1.0  # as a GPU takes it
    torch.save([each.cpu() for each in found], path)
