"""How near an image comes to another: the measures of table 4.1."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..editing import PerceptualDistance
from ..matching import UnitModel
from ..matching.units import in_unit_range


def lpips(images: Tensor, targets: Tensor) -> Tensor:
    """LPIPS [B] with AlexNet, as the thesis reports it. Downloads AlexNet's weights (233 MB) at the first call."""
    from torchmetrics.functional.image import learned_perceptual_image_patch_similarity  # a second of every start, which few need

    return learned_perceptual_image_patch_similarity(images, targets, net_type="alex", reduction="none", normalize=True).flatten()


def perceptual(model: UnitModel) -> Callable[[Tensor, Tensor], Tensor]:
    """The same with the maps of another model and without learned weights: what stands in for LPIPS where it cannot be had."""
    return lambda images, targets: PerceptualDistance(model, targets)(images)


@torch.no_grad()
def image_quality(images: Tensor, targets: Tensor, distance: Callable[[Tensor, Tensor], Tensor] = lpips) -> dict[str, Tensor]:
    """PSNR in dB, SSIM and a perceptual distance of images [B, 3, H, W] in 0..1 from their targets, [B] each (table 4.1).

    SSIM has the uniform 7 x 7 window of the evaluation that the thesis follows. Images are cut off at 0 and 1 first.
    Raises ValueError for images of another shape than their targets, and what `in_unit_range` raises.
    """
    from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

    if in_unit_range(images).shape != in_unit_range(targets).shape:
        raise ValueError(f"need as many images of the same size as targets, got {list(images.shape)} and {list(targets.shape)}")
    images, targets = images.clamp(0, 1), targets.clamp(0, 1)
    similarity = {"gaussian_kernel": False, "kernel_size": 7, "data_range": 1.0, "reduction": "none"}
    return {
        "PSNR": peak_signal_noise_ratio(images, targets, data_range=1.0, reduction="none", dim=(1, 2, 3)),
        "SSIM": structural_similarity_index_measure(images, targets, **similarity),
        "distance": distance(images, targets),
    }
