"""A small rendered world whose truth is known: images, captions, tasks, and small models trained on it."""

from .captions import Caption, caption, prompts, truth
from .paint import describe, paint, read
from .render import UNSEEN_STYLES, Rendered, render, restyle
from .tasks import (
    SandboxImages,
    factor_images,
    object_pair,
    segmentation_images,
    spurious_animals,
    to_pixels,
    zero_shot_classifier,
    zero_shot_report,
)
from .world import CATEGORIES, COLOURS, FACTORS, Spec, balanced, training

__all__ = [
    "CATEGORIES", "COLOURS", "FACTORS", "UNSEEN_STYLES", "Caption", "Rendered", "SandboxImages", "Spec", "balanced", "caption",
    "describe", "factor_images", "object_pair", "paint", "prompts", "read", "render", "restyle", "segmentation_images",
    "spurious_animals", "to_pixels", "training", "truth", "zero_shot_classifier", "zero_shot_report",
]  # fmt: skip
