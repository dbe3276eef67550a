"""What units, inversions and edits are worth, judged where the truth is known: on the sandbox."""

from . import experiments, judges, quality
from .outcomes import outcome, success
from .truth import mask_iou, unit_map

__all__ = ["experiments", "judges", "mask_iou", "outcome", "quality", "success", "unit_map"]
