"""Figures of chapter 3."""

import textwrap

import torch
from torch import Tensor

from ..statistics import Interval
from .base import Picture, show_map, unnormalise

TOWARD, AGAINST = "tab:blue", "tab:red"


def text_bars(axis, texts: list[str], weights: list[float], xlabel: str, digits: int = 2) -> None:
    """Horizontal bars, each with its text and number on the left, the first on top: blue to the right, red to the left."""
    axis.barh(range(len(texts)), weights, color=[TOWARD if w > 0 else AGAINST for w in weights], height=0.6)
    labels = [f"{textwrap.fill(text, 34)}  {weight:+.{digits}f}" for text, weight in zip(texts, weights)]
    axis.set_yticks(range(len(texts)), labels, fontsize=9)
    axis.tick_params(axis="y", length=0)
    axis.axvline(0, color="grey", linewidth=0.8)
    axis.set(ylim=(len(texts) - 0.4, -0.6), xlabel=xlabel)
    axis.xaxis.get_major_locator().set_params(nbins=4)
    axis.spines[["top", "right", "left"]].set_visible(False)


def neuron_view(
    title: str, texts: list[str], weights: list[float], images: list[Tensor], coefficients: list[float], maps: Tensor
) -> Picture:
    """One neuron: its texts with signed weights; its top images with x, each above the map [n, rows, columns] of its activation."""
    figure = Picture(figsize=(10.8, 3.2), layout="constrained")
    figure.suptitle(title, fontsize=11)
    left, right = figure.subfigures(1, 2, width_ratios=(1.15, 1.8))
    text_bars(left.subplots(), texts, weights, "weight in the direction")
    grid = right.subplots(2, len(images), squeeze=False)
    limit = maps.abs().max().item() or 1.0
    for k, (image, coefficient) in enumerate(zip(images, coefficients)):
        grid[0, k].imshow(unnormalise(image))
        grid[0, k].set_axis_off()
        grid[0, k].set_title(f"x = {100 * coefficient:+.2f}", fontsize=9)
        drawn = show_map(grid[1, k], image, maps[k], limit=limit)
    right.colorbar(drawn, ax=grid[1, :], shrink=0.8, label="activation")
    right.supxlabel("images with its largest effects (x times 100), and where the neuron is active on them", fontsize=9)
    return figure


def concept_view(pixels: Tensor, texts: list[str], scores: list[float], found: list[bool] | None = None) -> Picture:
    """An image and the texts that its active neurons speak for; found: which of them are true of it, if that is known."""
    figure = Picture(figsize=(8.4, 0.36 * max(len(texts), 3) + 0.9), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 2.2))
    left.imshow(unnormalise(pixels))
    left.set_axis_off()
    marks = [""] * len(texts) if found is None else ["✓ " if true else "✗ " for true in found]
    text_bars(right, [mark + text for text, mark in zip(texts, marks)], [1000 * score for score in scores], "score (x 1000)")
    if found is not None:
        right.set_title("✓ true of the image, ✗ not", fontsize=9)
    return figure


def fooled_view(pixels: list[Tensor], maps: Tensor, descriptions: list[str], titles: list[str]) -> Picture:
    """Images that fool the classifier, with their descriptions, above what speaks for the wrong class: maps [n, rows, columns]."""
    figure = Picture(figsize=(2.05 * len(pixels) + 0.5, 4.6), layout="constrained")
    axes = figure.subplots(2, len(pixels), squeeze=False)
    limit = maps.abs().max().item() or 1.0
    for k, image in enumerate(pixels):
        axes[0, k].imshow(unnormalise(image))
        axes[0, k].set_axis_off()
        axes[0, k].set_title(titles[k] + "\n" + "\n".join(textwrap.wrap(f"“{descriptions[k]}”", 26)), fontsize=8.5)
        drawn = show_map(axes[1, k], pixels[k], maps[k], limit=limit)
    figure.colorbar(drawn, ax=axes[1, :], shrink=0.85, label="speaks for the wrong class")
    return figure


def value_bars(rows: dict[str, list[float | Interval]], names: list[str], ylabel: str, xlabel: str = "") -> Picture:
    """Groups of bars side by side: for each name, one bar of each row, with its interval if it has one."""
    figure = Picture(figsize=(1.25 * len(names) + 3.0, 3.1), layout="constrained")
    axis, width = figure.subplots(), 0.8 / len(rows)
    for k, (label, values) in enumerate(rows.items()):
        places = [place + (k - (len(rows) - 1) / 2) * width for place in range(len(names))]
        means, halves = zip(*(each if isinstance(each, Interval) else (each, 0.0) for each in values))
        axis.bar(places, means, width, label=label, yerr=halves if any(halves) else None, error_kw={"linewidth": 1})
    axis.set_xticks(range(len(names)), names, fontsize=9)
    axis.set(xlabel=xlabel, ylabel=ylabel)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def histogram(values: dict[str, Tensor], xlabel: str, ylabel: str, bins: int = 30) -> Picture:
    """Distributions over neurons as outlines over the same bins."""
    figure = Picture(figsize=(6.0, 3.0), layout="constrained")
    axis = figure.subplots()
    low, high = min(v.min().item() for v in values.values()), max(v.max().item() for v in values.values())
    edges = torch.linspace(low, high, bins + 1)
    for (name, each), style in zip(values.items(), ("-", "--", ":", "-.")):
        axis.stairs(torch.histogram(each.float().cpu(), edges).hist / len(each), edges, label=name, linestyle=style, linewidth=2)
    axis.set(xlabel=xlabel, ylabel=ylabel)
    axis.legend(frameon=False, fontsize=9)
    axis.spines[["top", "right"]].set_visible(False)
    return figure
