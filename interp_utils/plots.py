"""Figures. Each function returns a matplotlib figure that knows nothing of pyplot, so there is nothing to close."""

import io

import matplotlib
from matplotlib.figure import Figure
from torch import Tensor


class Picture(Figure):
    """A figure that notebooks show by itself."""

    def png(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=100, metadata={"Software": None})
        return buffer.getvalue()

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
    for (name, values), style in zip(curves.items(), ("o-", "s--", "^:", "D-.")):
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
