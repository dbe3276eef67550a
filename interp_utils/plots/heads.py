"""Figures of chapter 2."""

import textwrap

import matplotlib
from torch import Tensor

from .base import Picture, show_map, unnormalise

FRAMES = {  # of the factor that a head is named after: right or not
    True: {"fill": False, "linewidth": 2, "edgecolor": "tab:green", "linestyle": "-"},
    False: {"fill": False, "linewidth": 2, "edgecolor": "tab:red", "linestyle": "--"},
}


def head_view(pixels: Tensor, scores: Tensor, tokens: Tensor, grid: tuple[int, int], layer: int, head: int, text: str) -> Picture:
    """One head on one image: the image, the score of every head [L, H], and where on the image it comes from [N+1]."""
    figure = Picture(figsize=(10.2, 3.5), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1.1, 1.15))
    left.imshow(unnormalise(pixels))
    left.set_axis_off()
    left.set_title("image", fontsize=10)
    limit = scores.abs().max().item() or 1.0
    drawn = middle.imshow(scores.cpu(), cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
    middle.add_patch(matplotlib.patches.Rectangle((head - 0.5, layer - 0.5), 1, 1, fill=False, linewidth=2.5))
    middle.set(xlabel="head", ylabel="layer")
    step = -(-scores.shape[1] // 8)
    middle.set_xticks(range(0, scores.shape[1], step))
    middle.set_title(f"score of each head for\n“{text}”", fontsize=10)
    figure.colorbar(drawn, ax=middle)
    first = len(tokens) - grid[0] * grid[1]  # tokens that are no patches
    others = f"class token {tokens[0]:+.3f}" if first else "no class token"
    drawn = show_map(right, pixels, tokens[first:].reshape(grid), f"tokens of L{layer}H{head}\n({others})")
    figure.colorbar(drawn, ax=right, shrink=0.8)
    return figure


def span_view(
    title: str, texts: list[str], explained: list[float], images: list[list[Tensor]], overlap: Tensor, head, layers: list[int]
) -> Picture:
    """One head: its texts with explained variance, each with its top images, and its overlap [L', H] with other heads."""
    rows, columns = len(texts), len(images[0])
    figure = Picture(figsize=(10.4, 0.82 * rows + 0.9), layout="constrained")
    left, middle, right = figure.subfigures(1, 3, width_ratios=(1.15, 1, 0.8))
    figure.suptitle(title, fontsize=11)
    bars = left.subplots()
    bars.barh(range(rows), [100 * share for share in explained], color="tab:blue", height=0.35, align="edge")
    for row, (text, share) in enumerate(zip(texts, explained)):
        bars.annotate(f"{text}  ({share:.1%})", (0, row), xytext=(2, 2), textcoords="offset points", fontsize=9, va="bottom")
    bars.set(ylim=(rows - 0.5, -0.6), yticks=[], xlabel="variance explained (%)")
    bars.spines[["top", "right", "left"]].set_visible(False)
    middle.suptitle("images that score highest for each text", fontsize=9)
    grid = middle.subplots(rows, columns, squeeze=False)
    for row in range(rows):
        for column in range(columns):
            grid[row, column].imshow(unnormalise(images[row][column]))
            grid[row, column].set_axis_off()
    heat = right.subplots()
    drawn = heat.imshow(overlap, cmap="viridis", vmin=0, vmax=1, aspect="auto")
    heat.add_patch(matplotlib.patches.Rectangle((head[1] - 0.5, layers.index(head[0]) - 0.5), 1, 1, fill=False, ec="w", lw=2))
    heat.set(xlabel="head", ylabel="layer", yticks=range(len(layers)), yticklabels=layers)
    heat.set_xticks(range(0, overlap.shape[1], -(-overlap.shape[1] // 8)))
    heat.set_title("overlap of text spans", fontsize=9)
    right.colorbar(drawn, ax=heat)
    return figure


def neighbour_view(query: Tensor, rows: dict[str, list[Tensor]], shared: dict[str, dict[str, float]]) -> Picture:
    """A query image, its neighbours in each row, and, where known, the share of images that agree with it in each factor.

    shared: by what the images are (neighbours of each row; to compare, all images), the share of each factor.
    """
    count = max(len(images) for images in rows.values())
    figure = Picture(figsize=(1.05 * (count + 1) + (3.2 if shared else 0), 1.35 * len(rows) + 0.3), layout="constrained")
    panels = figure.subfigures(1, 2, width_ratios=(1.05 * (count + 1), 3.2)) if shared else [figure.subfigures(1, 1)]
    grid = panels[0].subplots(len(rows), count + 1, squeeze=False)
    for axis in grid.flat:
        axis.set_axis_off()
    for row, (name, images) in zip(grid, rows.items()):
        row[0].imshow(unnormalise(query))
        row[0].set_title("query", fontsize=9)
        row[1].set_title(f"nearest by {name}", fontsize=9, loc="left")
        for axis, image in zip(row[1:], images):
            axis.imshow(unnormalise(image))
    if shared:
        axis = panels[1].subplots()
        for k, ((name, values), colour) in enumerate(zip(shared.items(), ("tab:blue", "tab:orange", "silver"))):
            places = [place + (k - (len(shared) - 1) / 2) * 0.8 / len(shared) for place in range(len(values))]
            axis.barh(places, [100 * value for value in values.values()], height=0.8 / len(shared), label=name, color=colour)
            axis.set_yticks(range(len(values)), list(values), fontsize=8)
        axis.invert_yaxis()
        axis.set_xlim(0, 100)
        axis.set_xlabel("images that agree with the query (%)", fontsize=8)
        axis.legend(fontsize=7, frameon=False, loc="lower center", bbox_to_anchor=(0.4, 1), ncols=3)
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def head_maps(pixels: list[Tensor], maps: Tensor, most: list[str], least: list[str]) -> Picture:
    """Images above, a head's maps [B, 2, rows, columns] below on one scale: most similar text (green), least similar (red)."""
    figure = Picture(figsize=(1.75 * len(pixels) + 1.0, 5.6), layout="constrained")
    axes, limit = figure.subplots(3, len(pixels), squeeze=False), maps.abs().max().item() or 1.0
    for k, image in enumerate(pixels):
        axes[0, k].imshow(unnormalise(image))
        axes[0, k].set_axis_off()
        for row, (text, colour) in enumerate(((most[k], "tab:green"), (least[k], "tab:red")), start=1):
            drawn = show_map(axes[row, k], image, maps[k, row - 1], limit=limit)
            axes[row, k].set_axis_on()
            axes[row, k].set(xticks=[], yticks=[])
            axes[row, k].set_title("\n".join(textwrap.wrap(text, 22)), fontsize=8)
            for spine in axes[row, k].spines.values():
                spine.set(color=colour, linewidth=3)
    figure.colorbar(drawn, ax=axes[1:, :], shrink=0.85, label="score")
    return figure


def factor_grid(names: list[str], shares: dict[str, list[float]], named: list[str]) -> Picture:
    """The share of each head's variance (columns) that each factor explains (rows), in percent; a frame marks the head's name.

    The frame is green where the named factor is the one with the largest share, else red, and its number is always shown. Shares
    of factors that only some images show are of those images, so that a column may add up to more than 1.
    """
    figure = Picture(figsize=(0.42 * len(names) + 2.0, 0.34 * len(shares) + 1.4), layout="constrained")
    axis, rows = figure.subplots(), list(shares.values())
    drawn = axis.imshow([[100 * value for value in row] for row in rows], cmap="Blues", vmin=0, vmax=100, aspect="auto")
    for column, name in enumerate(named):
        values, own = [row[column] for row in rows], list(shares).index(name)
        for place, value in enumerate(values):
            if value >= 0.05 or place == own:
                colour = "white" if value > 0.6 else "black"
                axis.text(column, place, f"{100 * value:.0f}", ha="center", va="center", fontsize=8, color=colour)
        right = own == values.index(max(values))
        axis.add_patch(matplotlib.patches.Rectangle((column - 0.42, own - 0.42), 0.84, 0.84, **FRAMES[right]))
    axis.set_xticks(range(len(names)), names, fontsize=8, rotation=90)
    axis.set_yticks(range(len(shares)), list(shares), fontsize=9)
    figure.colorbar(drawn, ax=axis, label="variance explained (%)")
    says = {True: "named after the factor with the largest share", False: "named after another factor"}
    samples = [matplotlib.patches.Patch(label=says[right], **FRAMES[right]) for right in (True, False)]
    figure.legend(handles=samples, loc="outside lower center", ncols=2, fontsize=9, frameon=False)
    return figure
