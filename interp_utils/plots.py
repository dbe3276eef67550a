"""Figures. Each function returns a matplotlib figure that knows nothing of pyplot, so there is nothing to close."""

import html
import io
import itertools
import textwrap

import matplotlib
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

STYLES = ("o-", "s--", "^:", "D-.", "v-", "x--")  # of curves


class Picture(Figure):
    """A figure that notebooks show by itself."""

    def png(self) -> bytes:
        drawn, small = io.BytesIO(), io.BytesIO()
        self.savefig(drawn, format="png", dpi=100)
        # 256 colours: a third of the size, which keeps executed notebooks light
        Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(small, "png", optimize=True)
        return small.getvalue()

    _repr_png_ = png


def unnormalise(pixels: Tensor) -> Tensor:
    """Preprocessed pixels [3, H, W] -> [H, W, 3] in 0..1 for showing, stretched to the image's own range."""
    image = pixels.detach().float().cpu().movedim(0, -1)
    low, high = image.min(), image.max()
    return (image - low) / (high - low).clamp(min=1e-6)


def image_grid(images: list[Tensor], titles: list[str] | None = None, columns: int = 8) -> Picture:
    """Preprocessed images [3, H, W] side by side, each with a title."""
    rows = -(-len(images) // columns)
    figure = Picture(figsize=(1.5 * columns, (1.75 if titles else 1.5) * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for axis in axes:
        axis.set_axis_off()
    for k, image in enumerate(images):
        axes[k].imshow(unnormalise(image))
        if titles:
            axes[k].set_title(titles[k], fontsize=8)
    return figure


def show_map(axis, pixels: Tensor, scores: Tensor, title: str = "", limit: float | None = None):
    """Draw a map of signed patch scores [rows, columns] over an image [3, H, W]; returns the mappable for a colour bar."""
    height, width = pixels.shape[-2:]
    grey = unnormalise(pixels).mean(-1)
    limit = limit or scores.abs().max().item() or 1.0
    axis.imshow(grey, cmap="gray", vmin=-0.6, vmax=1.4, extent=(0, width, height, 0))
    drawn = axis.imshow(
        scores.cpu(), cmap="RdBu_r", vmin=-limit, vmax=limit, alpha=0.65, extent=(0, width, height, 0), interpolation="bilinear"
    )
    axis.set_title(title, fontsize=10)
    axis.set_axis_off()
    return drawn


def text_maps(pixels: list[Tensor], maps: Tensor, titles: list[str]) -> Picture:
    """Images above, the map of each below: maps [K, rows, columns], red where a patch speaks for the text."""
    count = len(pixels)
    figure = Picture(figsize=(1.7 * count + 0.6, 3.9), layout="constrained")
    axes = figure.subplots(2, count, squeeze=False)
    limit = maps.abs().max().item() or 1.0
    for k in range(count):
        axes[0, k].imshow(unnormalise(pixels[k]))
        axes[0, k].set_axis_off()
        axes[0, k].set_title(titles[k], fontsize=9)
        drawn = show_map(axes[1, k], pixels[k], maps[k], limit=limit)
    figure.colorbar(drawn, ax=axes[1, :], shrink=0.85, label="score")
    return figure


def layer_curve(curves: dict[str, list[float]], xlabel: str, ylabel: str, marks: dict[str, float] | None = None) -> Picture:
    """Curves over layers, with dashed horizontal marks."""
    figure = Picture(figsize=(6.4, 3.4), layout="constrained")
    axis = figure.subplots()
    for (name, values), style in zip(curves.items(), itertools.cycle(STYLES)):
        axis.plot(range(len(values)), values, style, label=name)
    for name, value in (marks or {}).items():
        axis.axhline(value, color="grey", linestyle=":", linewidth=1)
        axis.annotate(name, (0, value), xytext=(0, 3), textcoords="offset points", fontsize=8, color="grey")
    axis.set(xlabel=xlabel, ylabel=ylabel)
    axis.legend(frameon=False, fontsize=9)
    axis.spines[["top", "right"]].set_visible(False)
    return figure


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
    drawn = show_map(right, pixels, tokens[1:].reshape(grid), f"tokens of L{layer}H{head}\n(class token {tokens[0]:+.3f})")
    figure.colorbar(drawn, ax=right, shrink=0.8)
    return figure


class Table:
    """A small table that notebooks show as HTML and terminals as text. Numbers are shown with one decimal."""

    def __init__(self, header: list[str], rows: list[list]):
        self.header = header
        self.rows = [[f"{cell:.1f}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]

    def __repr__(self) -> str:
        widths = [max(map(len, column)) for column in zip(self.header, *self.rows)]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in (self.header, *self.rows)
        )

    def _repr_html_(self) -> str:
        def line(cells, tag):
            return "<tr>" + "".join(f"<{tag} style='text-align: left'>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

        return f"<table>{line(self.header, 'th')}{''.join(line(row, 'td') for row in self.rows)}</table>"


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
    """A query image, its neighbours in each row, and, where known, the share of neighbours that agree in each factor."""
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
        for k, (name, values) in enumerate(shared.items()):
            places = [place + (k - (len(shared) - 1) / 2) * 0.8 / len(shared) for place in range(len(values))]
            axis.barh(places, [100 * value for value in values.values()], height=0.8 / len(shared), label=name)
            axis.set_yticks(range(len(values)), list(values), fontsize=8)
        axis.invert_yaxis()
        axis.set_xlim(0, 100)
        axis.set_xlabel("neighbours that agree (%)", fontsize=8)
        axis.legend(fontsize=7, frameon=False, loc="upper center", bbox_to_anchor=(0.5, 1.18), ncols=2)
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def head_maps(pixels: list[Tensor], maps: Tensor, most: list[str], least: list[str]) -> Picture:
    """Images above, a head's maps [B, 2, rows, columns] below: of the most (green) and the least similar text (red)."""
    figure = Picture(figsize=(1.75 * len(pixels) + 0.3, 5.6), layout="constrained")
    axes = figure.subplots(3, len(pixels), squeeze=False)
    for k, image in enumerate(pixels):
        axes[0, k].imshow(unnormalise(image))
        axes[0, k].set_axis_off()
        for row, (text, colour) in enumerate(((most[k], "tab:green"), (least[k], "tab:red")), start=1):
            show_map(axes[row, k], image, maps[k, row - 1])
            axes[row, k].set_axis_on()
            axes[row, k].set(xticks=[], yticks=[])
            axes[row, k].set_title("\n".join(textwrap.wrap(text, 22)), fontsize=8)
            for spine in axes[row, k].spines.values():
                spine.set(color=colour, linewidth=3)
    return figure


def factor_bars(names: list[str], shares: dict[str, list[float]], marks: list[str]) -> Picture:
    """Stacked bars: the share of each head's variance that each factor explains, with a mark under each head's name."""
    figure = Picture(figsize=(0.52 * len(names) + 2.2, 3.6), layout="constrained")
    axis, bottom = figure.subplots(), [0.0] * len(names)
    for factor, values in shares.items():
        values = [max(0.0, 100 * value) for value in values]
        axis.bar(range(len(names)), values, bottom=bottom, label=factor, width=0.75)
        bottom = [low + value for low, value in zip(bottom, values)]
    axis.set_xticks(range(len(names)), [f"{name}\n{mark}" for name, mark in zip(names, marks)], fontsize=8)
    axis.set_ylabel("variance explained (%)")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def curve_row(panels: dict[str, dict[str, list[float]]], x: list[int], xlabel: str, ylabel: str) -> Picture:
    """Panels side by side, each with the same curves over x."""
    figure = Picture(figsize=(3.3 * len(panels) + 1.4, 3.1), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axis, (title, curves) in zip(axes, panels.items()):
        for (name, values), style in zip(curves.items(), itertools.cycle(STYLES)):
            axis.plot(x, values, style, label=name, markersize=4)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel(xlabel)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel(ylabel)
    axes[-1].legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def method_maps(pixels: list[Tensor], maps: dict[str, Tensor]) -> Picture:
    """One row an image: the image, then the map of each method, maps [B, rows, columns]; each map has its own scale."""
    figure = Picture(figsize=(1.6 * (len(maps) + 1), 1.62 * len(pixels) + 0.3), layout="constrained")
    axes = figure.subplots(len(pixels), len(maps) + 1, squeeze=False)
    for row, image in enumerate(pixels):
        axes[row, 0].imshow(unnormalise(image))
        axes[row, 0].set_axis_off()
        for column, (name, each) in enumerate(maps.items(), start=1):
            show_map(axes[row, column], image, each[row], "\n".join(textwrap.wrap(name, 18)) if row == 0 else "")
    return figure
