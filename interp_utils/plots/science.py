"""Figures of chapter 5."""

import itertools
from collections.abc import Sequence

from matplotlib.lines import Line2D
from torch import Tensor

from .base import STYLES, Picture, unnormalise

ACCEPTED, REJECTED = "tab:blue", "tab:grey"


def hypothesis_view(true: list[Tensor], twins: list[Tensor], on: Tensor, off: Tensor, title: str, text: str) -> Picture:
    """Images of which a text is true above their twins, and a unit's answers [n] to both, each pair joined by a line."""
    count = len(true)
    figure = Picture(figsize=(1.35 * count + 4.0, 3.3), layout="constrained")
    figure.suptitle(title, fontsize=11)
    left, right = figure.subfigures(1, 2, width_ratios=(1.35 * count, 4.0))
    grid = left.subplots(2, count, squeeze=False)
    for row, (images, name) in zip(grid, ((true, f"“{text}”"), (twins, "twins, where it is not true"))):
        for axis, image in zip(row, images):
            axis.imshow(unnormalise(image))
            axis.set_axis_off()
        row[0].set_title(name, fontsize=9, loc="left")
    axis = right.subplots()
    axis.plot([0, 1], [off, on], color="lightgrey", linewidth=0.8, zorder=1)
    for place, (answers, colour) in enumerate(((off, REJECTED), (on, ACCEPTED))):
        axis.scatter([place] * len(answers), answers, color=colour, s=14, zorder=2)
        axis.hlines(answers.mean().item(), place - 0.22, place + 0.22, color=colour, linewidth=3, zorder=3)
    axis.set_xticks([0, 1], ["twins", "true"])
    axis.set(xlim=(-0.5, 1.5), ylabel="answer of the unit")
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def forest_view(rows: list[tuple[str, float, tuple[float, float], bool]], bars: list[float], xlabel: str) -> Picture:
    """Effects with their intervals, one (label, effect, interval, accepted) a row, and a tick at the bar of each."""
    figure = Picture(figsize=(8.4, 0.27 * len(rows) + 1.3), layout="constrained")
    axis = figure.subplots()
    for place, ((_, effect, (low, high), accepted), bar) in enumerate(zip(rows, bars)):
        colour = ACCEPTED if accepted else REJECTED
        axis.hlines(place, low, high, color=colour, linewidth=1.5)
        axis.plot(effect, place, "o" if accepted else "x", color=colour, markersize=5)
        axis.vlines(bar, place - 0.35, place + 0.35, color="black", linewidth=1.2)
    axis.axvline(0, color="grey", linewidth=0.8, linestyle=":")
    axis.set_yticks(range(len(rows)), [label for label, *_ in rows], fontsize=9)
    axis.set(ylim=(len(rows) - 0.4, -0.6), xlabel=xlabel)
    axis.spines[["top", "right"]].set_visible(False)
    signs = (("o-", ACCEPTED, "passes"), ("x-", REJECTED, "does not pass"), ("|", "black", "its bar"))
    handles = [Line2D([], [], marker=s[0], linestyle=s[1:] or "none", color=colour, label=name) for s, colour, name in signs]
    figure.legend(handles=handles, loc="outside upper center", ncols=3, frameon=False, fontsize=9)
    return figure


def circuit_curves(panels: dict[str, dict[str, Tensor]], sizes: Sequence[float], marks: dict[str, float], xlabel: str) -> Picture:
    """What circuits keep by their size: two panels a row, curves [draws, sizes], their mean and a band from lowest to highest.

    marks: a dotted line in some panels, such as what the whole model has.
    """
    rows = -(-len(panels) // 2)
    figure = Picture(figsize=(8.8, 3.2 * rows + 0.5), layout="constrained")
    axes = figure.subplots(rows, 2, squeeze=False).flat
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    for axis, (title, curves) in zip(axes, panels.items()):
        for (name, draws), style in zip(curves.items(), itertools.cycle(STYLES)):
            (line,) = axis.plot(sizes, draws.mean(0), style, label=name, markersize=4)
            axis.fill_between(sizes, draws.amin(0), draws.amax(0), color=line.get_color(), alpha=0.18, linewidth=0)
        if title in marks:
            axis.axhline(marks[title], color="black", linestyle=":", linewidth=1)
            axis.annotate("whole model", (min(sizes), marks[title]), (0, 3), textcoords="offset points", fontsize=8.5)
        axis.set_xscale("log", base=2)
        axis.set_xticks(sizes, [f"{size:g}" for size in sizes])
        axis.minorticks_off()
        axis.set_title(title, fontsize=10)
        axis.set(xlabel=xlabel, ylabel="kept, as a share of 1")
        axis.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return figure


def scatter_row(
    panels: dict[str, tuple[Tensor, Tensor]], xlabel: str, ylabel: str, marks: dict[str, float], mark: float
) -> Picture:
    """Panels of points (x, y), each with its own horizontal mark, and one vertical mark for all."""
    figure = Picture(figsize=(3.8 * len(panels) + 0.3, 3.6), layout="constrained")
    for axis, (title, (x, y)) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items()):
        axis.scatter(x, y, s=4, alpha=0.4, color=ACCEPTED, linewidths=0)
        axis.axhline(marks[title], color="black", linewidth=0.9, label="bar of the test")
        axis.axvline(mark, color="black", linewidth=0.9, linestyle=":", label="true from here on")
        axis.set_title(title, fontsize=10)
        axis.set(xlabel=xlabel, ylabel=ylabel)
        axis.spines[["top", "right"]].set_visible(False)
    figure.legend(*axis.get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False, fontsize=9)
    return figure


def agreement_plot(x: dict[str, Tensor], y: dict[str, Tensor], xlabel: str, ylabel: str) -> Picture:
    """Points of the same quantity got in two ways, one panel a name, with the line on which they agree."""
    figure = Picture(figsize=(3.2 * len(x), 3.1), layout="constrained")
    for axis, name in zip(figure.subplots(1, len(x), squeeze=False)[0], x):
        low, high = min(x[name].min(), y[name].min()).item(), max(x[name].max(), y[name].max()).item()
        axis.plot([low, high], [low, high], color="grey", linewidth=0.8)
        axis.plot(x[name].cpu(), y[name].cpu(), "o", markersize=3, alpha=0.6)
        axis.set(xlabel=xlabel, ylabel=ylabel)
        axis.set_title(name, fontsize=10)
        axis.locator_params(nbins=4)
        axis.spines[["top", "right"]].set_visible(False)
    return figure
