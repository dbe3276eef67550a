"""Figures of chapter 4."""

from collections.abc import Sequence

from torch import Tensor

from .base import Picture, show_map


def show_image(axis, image: Tensor, title: str = "") -> None:
    """An image [3, H, W] in 0..1; values beyond are cut off."""
    axis.imshow(image.detach().float().clamp(0, 1).movedim(0, -1).cpu())
    axis.set_title(title, fontsize=9)
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)


def image_rows(rows: dict[str, Tensor], titles: Sequence[str] = ()) -> Picture:
    """One row a name, each of images [B, 3, H, W] in 0..1, the name to the left; titles: one above each column."""
    columns = max(map(len, rows.values()))
    figure = Picture(figsize=(0.74 * columns + 1.5, 0.76 * len(rows) + 0.2 * bool(titles)), layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for row, (name, images) in enumerate(rows.items()):
        for column, axis in enumerate(axes[row]):
            axis.set_axis_off()
            if column < len(images):
                axis.set_axis_on()
                show_image(axis, images[column], titles[column] if titles and row == 0 else "")
        axes[row, 0].set_ylabel(name, fontsize=9, rotation=0, ha="right", va="center")
    return figure


def edit_row(images: list[Tensor], maps: list[Tensor], titles: list[str]) -> Picture:
    """Images [3, H, W] in 0..1, then maps [h, w] of one unit on one common scale."""
    figure = Picture(figsize=(1.9 * (len(images) + len(maps)), 2.1), layout="constrained")
    axes = figure.subplots(1, len(images) + len(maps))
    low, high = min(each.min().item() for each in maps), max(each.max().item() for each in maps)
    for axis, image, title in zip(axes, images, titles):
        show_image(axis, image, title)
    for axis, each, title in zip(axes[len(images) :], maps, titles[len(images) :]):
        axis.imshow(each.float(), cmap="viridis", vmin=low, vmax=high)
        axis.set_title(title, fontsize=9)
        axis.set(xticks=[], yticks=[])
    return figure


def concept_sheet(image: Tensor, maps: Sequence[Tensor], titles: Sequence[str], columns: int = 10) -> Picture:
    """One image [3, H, W] in 0..1, then a map [h, w] over it for each concept (thesis, figures 4.1, C.7 to C.11)."""
    rows = -(-(len(maps) + 1) // columns)
    figure = Picture(figsize=(0.9 * columns, 1.1 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    show_image(axes[0], image, "the image")
    for axis, each, title in zip(axes[1:], maps, titles):
        show_map(axis, image, each, title)
    for axis in axes[len(maps) + 1 :]:
        axis.set_axis_off()
    return figure
