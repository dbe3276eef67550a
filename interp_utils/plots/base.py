"""Figures that know nothing of pyplot, so there is nothing to close; tables; what all figures share."""

import html
import io
import itertools
import textwrap

import matplotlib
from matplotlib.figure import Figure
from torch import Tensor

from ..statistics import Interval
from .writing import writable

STYLES = ("o-", "s--", "^:", "D-.", "v-", "x--")  # of curves


class Picture(Figure):
    """A figure that notebooks show by itself.

    No text in it is read as mathematics: people write about $5 and $6. Characters that no font has are spelled.
    """

    _alt = ""

    def draw(self, renderer) -> None:
        writable(self)
        with matplotlib.rc_context({"text.parse_math": False}):  # for texts that are only made while drawing
            super().draw(renderer)

    def png(self) -> bytes:
        """Lossless, with pixels enough for print and for screens of high density."""
        drawn = io.BytesIO()
        self.savefig(drawn, format="png", dpi=150)
        return drawn.getvalue()

    @property
    def width(self) -> int:
        """Pixels that the picture is wide on a page, at 100 to the inch."""
        return round(100 * self.get_figwidth())

    @property
    def alt(self) -> str:
        """What the picture shows, for those who cannot see it: as it was set, else all titles and labels of axes."""
        if self._alt:
            return self._alt
        said = [self.get_suptitle()]
        for axis in self.axes:
            along = ", ".join(filter(None, (axis.get_xlabel(), axis.get_ylabel())))
            said.append(": ".join(filter(None, (axis.get_title(), along))))
        return "; ".join(" ".join(part.split()) for part in dict.fromkeys(said) if part) or "picture"

    @alt.setter
    def alt(self, text: str) -> None:
        self._alt = text

    def _repr_png_(self) -> tuple[bytes, dict]:
        return self.png(), {"width": self.width, "alt": self.alt}


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
        scores.detach().cpu(),
        cmap="RdBu_r",
        vmin=-limit,
        vmax=limit,
        alpha=0.65,
        extent=(0, width, height, 0),
        interpolation="bilinear",
    )
    axis.set_title(title, fontsize=10)
    axis.set_axis_off()
    return drawn


def overlays(pixels: list[Tensor], maps: Tensor, titles: list[str]) -> Picture:
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
        beside = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "va": "center"}
        axis.annotate(name, (1, value), xytext=(3, 0), fontsize=8, color="grey", **beside)
    axis.set(xlabel=xlabel, ylabel=ylabel)
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.legend(frameon=False, fontsize=9)
    axis.spines[["top", "right"]].set_visible(False)
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


def curve_row(
    panels: dict[str, dict[str, list[float | Interval]]],
    x: list[int],
    xlabel: str,
    ylabel: str,
    log: bool = False,
    chance: dict[str, float] | None = None,
) -> Picture:
    """Panels side by side, each with curves over x; log: x doubles from tick to tick; chance: a dotted line in some panels.

    A value may be an `Interval`. One legend stands beside the panels where all have the same curves, else one in each.
    """
    alike = len({tuple(curves) for curves in panels.values()}) == 1
    width = 4.6 if len(panels) == 1 else 3.3 if alike else 4.2  # legends below the panels are wide
    figure = Picture(figsize=(width * len(panels) + (1.4 if alike else 0.8), 3.1 if alike else 3.6), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axis, (title, curves) in zip(axes, panels.items()):
        for k, ((name, values), style) in enumerate(zip(curves.items(), itertools.cycle(STYLES))):
            means, halves = zip(*(each if isinstance(each, Interval) else (each, 0.0) for each in values))
            apart = 1.04 ** (k - (len(curves) - 1) / 2) if log and any(halves) else 1  # bars of one x stand beside each other
            axis.errorbar([at * apart for at in x], means, halves, fmt=style, label=name, markersize=4, elinewidth=0.8)
        if axis.get_ylim()[0] < 0:
            axis.axhline(0, color="lightgrey", linewidth=0.8, zorder=0)
        if title in (chance or {}):
            axis.axhline(chance[title], color="grey", linestyle=":", linewidth=1, label="chance")
        if log:
            axis.set_xscale("log", base=2)
            axis.set_xticks(x, x)
        else:
            axis.xaxis.get_major_locator().set_params(integer=True)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel(xlabel)
        axis.spines[["top", "right"]].set_visible(False)
        if not alike:
            axis.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
    axes[0].set_ylabel(ylabel)
    if alike:
        axes[-1].legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def method_maps(
    pixels: list[Tensor], maps: dict[str, Tensor], units: dict[str, str] | None = None, masks: list[Tensor] | None = None
) -> Picture:
    """One row an image: the image, then the map of each method, maps [B, rows, columns], with colour bars below.

    units: what each method's maps measure; neighbours in the same unit share one scale, over all images. None: maps of different
    units, each divided by its own largest value, as its bar says. masks: [H, W], 1 on the object, drawn as an outline.
    """
    figure = Picture(figsize=(1.6 * (len(maps) + 1), 1.62 * len(pixels) + 0.9), layout="constrained")
    grid = figure.add_gridspec(len(pixels) + 1, len(maps) + 1, height_ratios=[1] * len(pixels) + [0.06])
    for row, image in enumerate(pixels):
        axis = figure.add_subplot(grid[row, 0])
        axis.imshow(unnormalise(image))
        axis.set_axis_off()
        if row == 0:
            axis.set_title("image and mask" if masks else "image", fontsize=10)
        for colour, width in (("white", 3), ("black", 1)) if masks else ():
            axis.contour(masks[row].cpu() == 1, [0.5], colors=colour, linewidths=width)
    if units is None:
        maps = {name: each / each.abs().amax((1, 2), keepdim=True).clamp(min=1e-12) for name, each in maps.items()}
    unit_of, column = units or dict.fromkeys(maps, "share of each map's largest value"), 1
    for unit, names in itertools.groupby(maps, key=unit_of.__getitem__):
        group = list(names)
        limit = max(maps[name].abs().max().item() for name in group) or 1.0
        for place, name in enumerate(group, start=column):
            for row, image in enumerate(pixels):
                title = textwrap.fill(name, 18) if row == 0 else ""
                drawn = show_map(figure.add_subplot(grid[row, place]), image, maps[name][row], title, limit)
        bar = figure.colorbar(drawn, cax=figure.add_subplot(grid[-1, column : column + len(group)]), orientation="horizontal")
        bar.set_label(textwrap.fill(unit, 22 * len(group)), fontsize=8)
        bar.ax.tick_params(labelsize=7)
        bar.ax.xaxis.get_major_locator().set_params(nbins=4)
        column += len(group)
    return figure
