"""Widgets: plain drawing functions in thin ipywidgets shells."""

from .base import Explorer
from .editing import draw_edit, edit_explorer
from .heads import draw_head, draw_neighbours, draw_span, head_explorer, neighbour_explorer, span_explorer, text_direction
from .neurons import concept_explorer, draw_concepts, draw_neuron, neuron_explorer, uploaded
from .opening import draw_zero_shot, zero_shot, zero_shot_explorer
from .rosetta import dictionary_explorer, draw_concept, draw_partners, draw_units, unit_explorer
from .science import draw_hypothesis, hypothesis_lab, hypothesis_report

__all__ = [
    "Explorer", "concept_explorer", "dictionary_explorer", "draw_concept", "draw_concepts", "draw_edit", "draw_head",
    "draw_hypothesis", "draw_neighbours", "draw_neuron", "draw_partners", "draw_span", "draw_units", "draw_zero_shot",
    "edit_explorer", "head_explorer", "hypothesis_lab", "hypothesis_report", "neighbour_explorer", "neuron_explorer",
    "span_explorer", "text_direction", "unit_explorer", "uploaded", "zero_shot", "zero_shot_explorer",
]  # fmt: skip
