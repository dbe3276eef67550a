"""What units, inversions and edits are worth, judged where the truth is known: on the sandbox."""

from . import experiments, judges, quality
from .outcomes import outcome, success
from .truth import drawn_images, factor_shares, mask_iou, unit_map

__all__ = ["drawn_images", "experiments", "factor_shares", "judges", "mask_iou", "outcome", "quality", "success", "unit_map"]
