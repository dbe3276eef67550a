"""Which units of different models light up in the same places, and the dictionary of those that all share (thesis, 4.2 and 4.3)."""

from .buddies import best_buddies, buddy_summary, overlap_beyond_hubs, stability
from .correlation import Correlation, correlate_maps
from .dictionary import Dictionary, Rosetta, build_dictionary
from .matches import Match, Units
from .passes import PublishedCorrelation, correlate, match
from .units import Generator, UnitModel, style_space
from .zoo import load_unit_model, tokens_to_map, unit_layers

__all__ = [
    "Correlation", "Dictionary", "Generator", "Match", "PublishedCorrelation", "Rosetta", "UnitModel", "Units", "best_buddies",
    "buddy_summary", "build_dictionary", "correlate", "correlate_maps", "load_unit_model", "match", "overlap_beyond_hubs",
    "stability", "style_space", "tokens_to_map", "unit_layers",
]  # fmt: skip
