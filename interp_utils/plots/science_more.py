"""Figures of chapter 5, second half."""

from torch import Tensor

from .base import Picture


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
