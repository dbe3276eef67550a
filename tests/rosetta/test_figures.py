"""Figures of chapter 4 show what they are given, under its names."""

import torch

from interp_utils import plots


def test_every_column_and_row_has_its_name():
    figure = plots.image_rows({"before": torch.rand(2, 3, 8, 8), "after": torch.rand(2, 3, 8, 8)}, ["fish", "cat"])
    axes = figure.axes
    assert [axis.get_title() for axis in axes] == ["fish", "cat", "", ""]
    assert [axis.get_ylabel() for axis in axes] == ["before", "", "after", ""]


def test_all_concepts_lie_on_one_image():
    maps = [torch.full((4, 4), float(k)) for k in range(7)]
    figure = plots.concept_sheet(torch.rand(3, 8, 8), maps, [str(k) for k in range(7)], columns=3)
    assert [axis.get_title() for axis in figure.axes[:8]] == ["the image", *"0123456"]
    assert float(figure.axes[3].images[1].get_array().max()) == 2.0
    assert not figure.axes[8].axison, "no empty frame"
