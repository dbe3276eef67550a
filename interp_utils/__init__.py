"""See inside a vision model: what its layers, heads and tokens write into the joint space of images and text."""

from . import (
    datasets,
    exercises,
    explainers,
    heads,
    hooks,
    images,
    moments,
    neurons,
    plots,
    rosetta,
    sandbox,
    science,
    segmentation,
    statistics,
    stream,
    texts,
    thesis,
    towers,
    widgets,
)
from .models import Clip, load_clip
from .presets import setup
from .sandbox import adversarial as _adversarial  # noqa: F401, makes the small models known to rosetta.load_unit_model
from .sandbox import viewers as _viewers  # noqa: F401, likewise
from .sandbox.known import units as _known  # noqa: F401, and the known generator

__all__ = [
    "Clip", "datasets", "exercises", "explainers", "heads", "hooks", "images", "load_clip", "moments", "neurons", "plots",
    "rosetta", "sandbox", "science", "segmentation", "setup", "statistics", "stream", "texts", "thesis", "towers",
    "widgets",
]  # fmt: skip
