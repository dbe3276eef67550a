"""Chapter 4: which units different models share."""

from .buddies import best_buddies, buddy_summary, stability
from .dictionary import Dictionary, Rosetta, build_dictionary
from .generators import convert_nvidia_pickle, load_weights, read_nvidia_pickle, read_torch_file
from .matching import Correlation, Units, correlate_maps
from .passes import PublishedCorrelation, correlate
from .truth import drawn_images, factor_shares, mask_iou, unit_map
from .units import Generator, UnitModel, truncated_latents
from .zoo import load_unit_model, unit_layers

__all__ = [
    "Correlation", "Dictionary", "Generator", "PublishedCorrelation", "Rosetta", "UnitModel", "Units", "best_buddies",
    "buddy_summary", "build_dictionary", "convert_nvidia_pickle", "correlate", "correlate_maps", "drawn_images", "factor_shares",
    "load_unit_model", "load_weights", "mask_iou", "read_nvidia_pickle", "read_torch_file", "stability", "truncated_latents",
    "unit_layers", "unit_map",
]  # fmt: skip
