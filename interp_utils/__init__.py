"""See inside a vision model: what its layers, heads and tokens write into the joint space of images and text."""

from . import datasets, heads, moments, plots, sandbox, stream, widgets
from .models import Clip, load_clip
from .presets import setup

__all__ = ["Clip", "datasets", "heads", "load_clip", "moments", "plots", "sandbox", "setup", "stream", "widgets"]
