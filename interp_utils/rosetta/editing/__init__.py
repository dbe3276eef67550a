"""Latents whose maps match given ones: inversion of images, and edits of drawn ones (thesis, section 4.4)."""

from .edits import Change, Edit, copy_paste, edit, set_units, shift, zoom
from .guidance import Guidance, Pairs, matched_pairs, own_pairs, rosetta_pairs
from .inversion import Inversion, PerceptualDistance, invert, schedule
from .retrieval import similarities
from .translation import translated_pairs

__all__ = [
    "Change", "Edit", "Guidance", "Inversion", "Pairs", "PerceptualDistance", "copy_paste", "edit", "invert", "matched_pairs",
    "own_pairs", "rosetta_pairs", "schedule", "set_units", "shift", "similarities", "translated_pairs", "zoom",
]  # fmt: skip
