"""Chapter 4: which units different models share."""

from .buddies import best_buddies, buddy_summary, stability
from .dictionary import Dictionary, Rosetta, build_dictionary
from .editing import Edit, copy_paste, edit, set_units, shift, zoom
from .generators import convert_nvidia_pickle, load_weights, read_nvidia_pickle, read_torch_file
from .guidance import Guidance, Pairs, matched_pairs, own_pairs, rosetta_pairs
from .inversion import Inversion, PerceptualDistance, invert, schedule
from .matching import Correlation, Units, correlate_maps
from .passes import PublishedCorrelation, correlate
from .truth import drawn_images, factor_shares, mask_iou, unit_map
from .units import Generator, UnitModel, style_space, truncated_latents
from .zoo import load_unit_model, tokens_to_map, unit_layers

__all__ = [
    "Correlation", "Dictionary", "Edit", "Generator", "Guidance", "Inversion", "Pairs", "PerceptualDistance",
    "PublishedCorrelation", "Rosetta", "UnitModel", "Units", "best_buddies", "buddy_summary", "build_dictionary",
    "convert_nvidia_pickle", "copy_paste", "correlate", "correlate_maps", "drawn_images", "edit", "factor_shares", "invert",
    "load_unit_model", "load_weights", "mask_iou", "matched_pairs", "own_pairs", "read_nvidia_pickle", "read_torch_file",
    "rosetta_pairs", "schedule", "set_units", "shift", "stability", "style_space", "tokens_to_map",
    "truncated_latents", "unit_layers",
    "unit_map", "zoom",
]  # fmt: skip
