"""Figures. Each function returns a matplotlib figure that notebooks show by itself."""

from .base import Picture, Table, curve_row, image_grid, layer_curve, method_maps, show_map, text_maps, unnormalise
from .heads import factor_bars, head_maps, head_view, neighbour_view, span_view
from .neurons import concept_view, fooled_view, histogram, neuron_view, text_bars, value_bars
from .science import forest_view, hypothesis_view, scatter_row

__all__ = [
    "Picture", "Table", "concept_view", "curve_row", "factor_bars", "fooled_view", "forest_view", "head_maps", "head_view",
    "histogram", "hypothesis_view", "image_grid", "layer_curve", "method_maps", "neighbour_view", "neuron_view", "scatter_row",
    "show_map", "span_view", "text_bars", "text_maps", "unnormalise", "value_bars",
]  # fmt: skip
