"""Figures of chapter 1."""

import textwrap

import numpy as np
from torch import Tensor

from .base import Picture, unnormalise


def zero_shot_view(pixels: Tensor, names: list[str], probabilities: list[float], unknown: list[bool]) -> Picture:
    """An image and a bar for the probability of each name; a name with a word that the model never learned is marked."""
    figure = Picture(figsize=(7.4, max(2.5, 0.34 * len(names) + 0.9)), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.9))
    left.imshow(unnormalise(pixels))
    left.set_axis_off()
    best = max(range(len(names)), key=probabilities.__getitem__)
    colours = ["tab:blue" if k == best else "lightsteelblue" for k in range(len(names))]
    right.barh(range(len(names)), [100 * p for p in probabilities], color=colours)
    for row, p in enumerate(probabilities):
        right.annotate(f"{p:.1%}", (100 * p, row), xytext=(3, 0), textcoords="offset points", fontsize=9, va="center")
    labels = [textwrap.shorten(name, 34, placeholder="…") + (" (word unknown)" if odd else "") for name, odd in zip(names, unknown)]
    right.set_yticks(range(len(names)), labels, fontsize=9)
    right.set(xlim=(0, 115), ylim=(len(names) - 0.5, -0.5), xlabel="probability (%)", xticks=range(0, 101, 25))
    right.spines[["top", "right"]].set_visible(False)
    return figure


def world_view(images: list[Tensor], masks: list[np.ndarray], captions: list[list[str]]) -> Picture:
    """Images above, their masks below, and under each its captions."""
    figure = Picture(figsize=(2.05 * len(images), 4.6), layout="constrained")
    axes = figure.subplots(2, len(images), squeeze=False)
    for k, (image, mask, said) in enumerate(zip(images, masks, captions)):
        axes[0, k].imshow(unnormalise(image))
        axes[1, k].imshow(mask, cmap="gray")
        for axis in axes[:, k]:
            axis.set(xticks=[], yticks=[])
        words = "\n".join("\n  ".join(textwrap.wrap(f"“{text}”", 27)) for text in said)
        axes[1, k].text(0, -0.06, words, transform=axes[1, k].transAxes, fontsize=8, va="top")
    axes[0, 0].set_ylabel("image", fontsize=9)
    axes[1, 0].set_ylabel("mask", fontsize=9)
    return figure


def stream_view(after: list[float], attention: list[float], mlps: list[float]) -> Picture:
    """Length of the residual stream before the first block and after each (L+1 values), beside what each of L layers adds."""
    figure = Picture(figsize=(6.8, 3.2), layout="constrained")
    axis, places = figure.subplots(), np.arange(len(mlps))
    axis.bar(places + 0.8, attention, 0.32, label="attention adds", color="tab:blue")
    axis.bar(places + 1.16, mlps, 0.32, label="MLP adds", color="tab:orange")
    axis.plot(range(len(after)), after, "ko-", label="stream after the block", markersize=4)
    ticks = range(0, len(after), -(-len(after) // 14))
    axis.set_xticks(ticks, ["start", *(f"L{k - 1}" for k in ticks if k)])
    axis.set(xlabel="block", ylabel="length, mean over images")
    axis.legend(frameon=False, fontsize=9)
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def waterfall(labels: list[str], values: list[float], ylabel: str) -> Picture:
    """Terms of a sum, each starting where the one before it ended, and the total: blue up, red down."""
    figure = Picture(figsize=(0.42 * len(labels) + 2.0, 3.2), layout="constrained")
    axis, ends = figure.subplots(), np.cumsum(values)
    axis.bar(range(len(values)), values, bottom=ends - values, color=["tab:blue" if v > 0 else "tab:red" for v in values])
    axis.bar(len(values), ends[-1], color="dimgrey")
    axis.axhline(0, color="grey", linewidth=0.8)
    axis.set_xticks(range(len(values) + 1), [*labels, "sum"], rotation=60, ha="right", rotation_mode="anchor", fontsize=8)
    axis.set(xlabel="part of the model", ylabel=ylabel)
    axis.use_sticky_edges = False
    axis.margins(y=0.06)
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def lens_view(pixels: Tensor, readings: dict[str, Tensor], names: list[str], true: int | None = None) -> Picture:
    """An image, and what each lens says of it after each layer: readings [L+1, K], probabilities of K names.

    true: the name to set in bold.
    """
    figure = Picture(figsize=(2.4 + 3.6 * len(readings), 3.6), layout="constrained")
    left, *others = figure.subplots(1, 1 + len(readings), width_ratios=(0.8, *[1] * len(readings)))
    left.imshow(unnormalise(pixels))
    left.set_axis_off()
    for axis, (title, table) in zip(others, readings.items()):
        drawn = axis.imshow(table.detach().cpu(), cmap="viridis", vmin=0, vmax=1, aspect="auto")
        axis.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor", fontsize=8)
        ticks = range(0, len(table), -(-len(table) // 14))
        axis.set_yticks(ticks, ["start", *(f"after L{k - 1}" for k in ticks if k)], fontsize=8)
        axis.set_title(title, fontsize=10)
        if true is not None:
            axis.get_xticklabels()[true].set_fontweight("bold")
            axis.set_xlabel("class (bold: the right one)", fontsize=9)
    figure.colorbar(drawn, ax=others[-1], label="probability")
    return figure
