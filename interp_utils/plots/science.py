"""Figures of chapter 5."""

from torch import Tensor

from .base import Picture, unnormalise

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
    figure = Picture(figsize=(7.6, 0.25 * len(rows) + 0.9), layout="constrained")
    axis = figure.subplots()
    for place, ((_, effect, (low, high), accepted), bar) in enumerate(zip(rows, bars)):
        colour = ACCEPTED if accepted else REJECTED
        axis.hlines(place, low, high, color=colour, linewidth=1.5)
        axis.plot(effect, place, "o" if accepted else "x", color=colour, markersize=5)
        axis.vlines(bar, place - 0.35, place + 0.35, color="black", linewidth=1)
    axis.axvline(0, color="grey", linewidth=0.8, linestyle=":")
    axis.set_yticks(range(len(rows)), [label for label, *_ in rows], fontsize=8)
    axis.set(ylim=(len(rows) - 0.4, -0.6), xlabel=xlabel)
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def scatter_row(
    panels: dict[str, tuple[Tensor, Tensor]], xlabel: str, ylabel: str, marks: dict[str, float], mark: float
) -> Picture:
    """Panels of points (x, y), each with its own horizontal mark, and one vertical mark for all."""
    figure = Picture(figsize=(3.6 * len(panels) + 0.3, 3.2), layout="constrained")
    for axis, (title, (x, y)) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items()):
        axis.scatter(x, y, s=4, alpha=0.4, color=ACCEPTED, linewidths=0)
        axis.axhline(marks[title], color="black", linewidth=0.9)
        axis.axvline(mark, color="black", linewidth=0.9, linestyle=":")
        axis.set_title(title, fontsize=10)
        axis.set(xlabel=xlabel, ylabel=ylabel)
        axis.spines[["top", "right"]].set_visible(False)
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
        axis.ticklabel_format(style="sci", scilimits=(-2, 3))
        axis.spines[["top", "right"]].set_visible(False)
    return figure
