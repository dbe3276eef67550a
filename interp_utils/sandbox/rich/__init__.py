"""The second sandbox world: 144 kinds of object at free places, in light and weather, and an ordinary CLIP trained on it."""

from ..render import UNSEEN_STYLES, restyle
from . import clip
from .captions import Caption, caption, facts_of, prompts, values
from .paint import describe, paint, read
from .render import Rendered, draw, render, rendered
from .report import zero_shot_report
from .tasks import (
    SandboxImages,
    evaluation_specs,
    factor_images,
    factor_label,
    object_pair,
    segmentation_images,
    spurious_animals,
    to_pixels,
    zero_shot_classifier,
)
from .world import CATEGORIES, COLOURS, FACTORS, FAMILIES, Spec, balanced, natural

__all__ = [
    "CATEGORIES", "COLOURS", "FACTORS", "FAMILIES", "UNSEEN_STYLES", "Caption", "Rendered", "SandboxImages", "Spec", "balanced",
    "caption", "clip", "describe", "draw", "evaluation_specs", "factor_images", "factor_label", "facts_of", "natural",
    "object_pair", "paint", "prompts", "read", "render", "rendered", "restyle", "segmentation_images", "spurious_animals",
    "to_pixels", "values", "zero_shot_classifier", "zero_shot_report",
]  # fmt: skip
