"""Widgets: plain drawing functions in thin ipywidgets shells."""

from .base import Explorer
from .heads import draw_head, draw_neighbours, draw_span, head_explorer, neighbour_explorer, span_explorer, text_direction
from .neurons import concept_explorer, draw_concepts, draw_neuron, neuron_explorer, uploaded

__all__ = [
    "Explorer", "concept_explorer", "draw_concepts", "draw_head", "draw_neighbours", "draw_neuron", "draw_span", "head_explorer",
    "neighbour_explorer", "neuron_explorer", "span_explorer", "text_direction", "uploaded",
]  # fmt: skip
