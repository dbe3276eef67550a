"""See inside a vision model: what its layers, heads and tokens write into the joint space of images and text."""

from . import (
    datasets,
    explainers,
    heads,
    hooks,
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
    widgets,
)
from .models import Clip, load_clip
from .presets import setup

__all__ = [
    "Clip", "datasets", "explainers", "heads", "hooks", "load_clip", "moments", "neurons", "plots", "rosetta",
    "sandbox", "science", "segmentation", "setup", "statistics", "stream", "texts", "widgets",
]  # fmt: skip
