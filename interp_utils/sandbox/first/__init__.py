"""The first, smaller world of the sandbox and its CLIP, at which chapters 4 and 5 look."""

from ..render import UNSEEN_STYLES, restyle
from . import clip
from .captions import FACTS, Caption, caption, prompts, truth
from .paint import describe, paint, read
from .render import Rendered, render
from .tasks import (
    SandboxImages,
    factor_images,
    factor_label,
    factor_labels,
    object_pair,
    segmentation_images,
    spurious_animals,
    to_pixels,
    zero_shot_classifier,
    zero_shot_report,
)
from .world import CATEGORIES, COLOURS, FACTORS, Spec, balanced, training

__all__ = [
    "CATEGORIES", "COLOURS", "FACTORS", "FACTS", "UNSEEN_STYLES", "Caption", "Rendered", "SandboxImages", "Spec", "balanced",
    "caption", "clip", "describe", "factor_images", "factor_label", "factor_labels", "object_pair", "paint", "prompts", "read",
    "render", "restyle", "segmentation_images", "spurious_animals", "to_pixels", "training", "truth", "zero_shot_classifier",
    "zero_shot_report",
]  # fmt: skip
