"""A small rendered world whose truth is known: images, captions, tasks, and small models trained on it."""

from .captions import Caption, caption, prompts, truth
from .render import Rendered, render
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
    "CATEGORIES", "COLOURS", "FACTORS", "Caption", "Rendered", "SandboxImages", "Spec", "balanced", "caption",
    "factor_images", "object_pair", "prompts", "render", "segmentation_images", "spurious_animals", "to_pixels", "training",
    "truth", "zero_shot_classifier", "zero_shot_report",
]  # fmt: skip
