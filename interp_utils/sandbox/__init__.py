"""A small rendered world whose truth is known: images, captions, tasks, and models trained on it."""

from . import clip
from .captions import FACTS, Caption, caption, fact_of_prompt, facts_of, prompts, truth, values
from .paint import describe, paint, read
from .render import UNSEEN_STYLES, Rendered, draw, render, rendered, restyle
from .report import zero_shot_correct, zero_shot_report
from .tasks import (
    SandboxImages,
    evaluation_specs,
    factor_images,
    factor_label,
    factor_labels,
    object_pair,
    segmentation_images,
    spurious_animals,
    to_pixels,
    zero_shot_classifier,
)
from .world import CATEGORIES, COLOURS, FACTORS, FAMILIES, Spec, balanced, natural

__all__ = [
    "CATEGORIES", "COLOURS", "FACTORS", "FACTS", "FAMILIES", "UNSEEN_STYLES", "Caption", "Rendered", "SandboxImages", "Spec",
    "balanced", "caption", "clip", "describe", "draw", "evaluation_specs", "fact_of_prompt", "facts_of", "factor_images",
    "factor_label", "factor_labels", "natural", "object_pair", "paint", "prompts", "read", "render", "rendered", "restyle",
    "segmentation_images", "spurious_animals", "to_pixels", "truth", "values", "zero_shot_classifier", "zero_shot_correct",
    "zero_shot_report",
]  # fmt: skip
