"""Chapter 4: which units different models share."""

from .editing import (
    Edit,
    Guidance,
    Inversion,
    Pairs,
    PerceptualDistance,
    copy_paste,
    edit,
    invert,
    matched_pairs,
    own_pairs,
    rosetta_pairs,
    schedule,
    set_units,
    shift,
    similarities,
    translated_pairs,
    zoom,
)
from .generators import convert_nvidia_pickle, load_weights, read_nvidia_pickle, read_torch_file, truncated_latents
from .judging import experiments, judges, mask_iou, outcome, quality, success, unit_map
from .matching import (
    Correlation,
    Dictionary,
    Generator,
    PublishedCorrelation,
    Rosetta,
    UnitModel,
    Units,
    best_buddies,
    buddy_summary,
    build_dictionary,
    correlate,
    correlate_maps,
    load_unit_model,
    overlap_beyond_hubs,
    stability,
    style_space,
    tokens_to_map,
    unit_layers,
)

__all__ = [
    "Correlation", "Dictionary", "Edit", "Generator", "Guidance", "Inversion", "Pairs", "PerceptualDistance",
    "PublishedCorrelation", "Rosetta", "UnitModel", "Units", "best_buddies", "buddy_summary", "build_dictionary",
    "convert_nvidia_pickle", "copy_paste", "correlate", "correlate_maps", "edit", "experiments",
    "invert", "judges", "load_unit_model", "load_weights", "mask_iou", "matched_pairs", "outcome",
    "overlap_beyond_hubs", "own_pairs", "quality", "read_nvidia_pickle", "read_torch_file", "rosetta_pairs", "schedule",
    "set_units", "shift", "similarities", "stability", "style_space", "success", "tokens_to_map", "translated_pairs",
    "truncated_latents", "unit_layers", "unit_map", "zoom",
]  # fmt: skip
