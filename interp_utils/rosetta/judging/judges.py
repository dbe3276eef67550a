"""Where the object of an image is, and how large, by its mask."""

import torch
from torch import Tensor


def places(masks: Tensor) -> tuple[Tensor, Tensor]:
    """Middle of each mask [B, H, W], of probabilities or bools, across and down in shares of the side [B, 2], and its area [B].

    The middle of an empty mask is nan.
    """
    masks = masks.float()
    area = masks.mean((1, 2))
    across, down = (torch.arange(size, dtype=torch.float32).add(0.5).div(size) for size in (masks.shape[2], masks.shape[1]))
    middle = torch.stack([(masks * across).mean((1, 2)), (masks * down[:, None]).mean((1, 2))], 1)
    return middle / area[:, None], area
