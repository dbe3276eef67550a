"""Chapter 4: which units different models share."""

from .buddies import best_buddies, buddy_summary, stability
from .dictionary import Dictionary, Rosetta, build_dictionary
from .matching import Correlation, Units, correlate_maps
from .passes import PublishedCorrelation, correlate
from .units import Generator, UnitModel, truncated_latents
from .zoo import load_unit_model, unit_layers

__all__ = [
    "Correlation", "Dictionary", "Generator", "PublishedCorrelation", "Rosetta", "UnitModel", "Units", "best_buddies",
    "build_dictionary", "buddy_summary", "correlate", "correlate_maps", "load_unit_model", "stability", "truncated_latents",
    "unit_layers",
]  # fmt: skip
