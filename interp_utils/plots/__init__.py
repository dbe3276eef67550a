"""Figures. Each function returns a matplotlib figure that notebooks show by itself."""

from .base import Picture, Table, curve_row, image_grid, layer_curve, method_maps, overlays, show_map, unnormalise
from .heads import factor_grid, head_maps, head_view, neighbour_view, span_view
from .neurons import concept_view, fooled_view, histogram, neuron_view, text_bars, value_bars
from .opening import lens_view, stream_view, waterfall, world_view, zero_shot_view
from .rosetta import concept_sheet, edit_row, image_rows, show_image
from .schematics import schematic
from .science import agreement_plot, circuit_curves, forest_view, hypothesis_view, scatter_row

__all__ = [
    "Picture", "Table", "agreement_plot", "circuit_curves", "concept_sheet", "concept_view", "curve_row", "edit_row",
    "factor_grid", "fooled_view", "forest_view", "head_maps", "head_view", "histogram", "hypothesis_view", "image_grid",
    "image_rows", "layer_curve", "lens_view", "method_maps", "neighbour_view", "neuron_view", "overlays", "scatter_row",
    "schematic", "show_image", "show_map", "span_view", "stream_view", "text_bars", "unnormalise", "value_bars", "waterfall",
    "world_view", "zero_shot_view",
]  # fmt: skip
