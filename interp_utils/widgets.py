"""Widgets: plain drawing functions in thin ipywidgets shells."""

import base64
import html
from collections.abc import Callable

import ipywidgets
from torch import Tensor

from . import plots
from .heads import direct_effects
from .models import Clip


class Explorer(ipywidgets.VBox):
    """Controls above a figure that `draw(**values)` returns together with a sentence that says what it shows.

    The figure lives in a trait as an <img> whose alt text is the sentence, so it can be read, tested and saved. An error in
    `draw` is raised when the explorer is made, and shown in its status line (`status`) after a control was moved.
    """

    def __init__(self, draw: Callable[..., tuple[plots.Picture, str]], **controls: ipywidgets.Widget):
        self.draw, self.controls = draw, controls
        self.view, self.status = ipywidgets.HTML(), ipywidgets.HTML()
        self.view.add_class("iu-view")
        self.status.add_class("iu-status")
        super().__init__([ipywidgets.HBox(list(controls.values()), layout={"flex_flow": "row wrap"}), self.view, self.status])
        for control in controls.values():
            control.observe(self.refresh, "value")
        self.refresh()

    def refresh(self, change=None) -> None:
        try:
            figure, self.alt = self.draw(**{name: control.value for name, control in self.controls.items()})
        except Exception as error:
            self.alt = f"{type(error).__name__}: {error}"
            self.status.value = f"<b>{html.escape(self.alt)}</b>"
            if change is None:
                raise
            return
        self.png = figure.png()
        source = base64.b64encode(self.png).decode()
        self.view.value = f'<img alt="{html.escape(self.alt)}" style="max-width: 100%" src="data:image/png;base64,{source}">'
        self.status.value = html.escape(self.alt)

    def _repr_mimebundle_(self, **kwargs):
        bundle = super()._repr_mimebundle_(**kwargs)
        data = bundle[0] if isinstance(bundle, tuple) else bundle
        return {**(data or {}), "image/png": base64.b64encode(self.png).decode()}


def draw_head(
    clip: Clip, pixels: Tensor, layer: int, head: int, text: str, against: list[str], ln: str = "centered"
) -> tuple[plots.Picture, str]:
    """What one head sees on one image [3, H, W] for a text: score of every head, and the head's token map, with a sentence.

    The score is the head's direct effect times the text's unit vector, less the mean over the texts in `against`, as a share
    of the length of the image's representation. Raises IndexError for a head that is not there, ValueError for a blank text.
    """
    if not (0 <= layer < clip.n_layers and 0 <= head < clip.n_heads):
        raise IndexError(f"no head L{layer}H{head}: the model has {clip.n_layers} layers of {clip.n_heads} heads")
    return _draw_head(direct_effects(clip, pixels[None], ln), text_direction(clip, text, against), layer, head, text)


def text_direction(clip: Clip, text: str, against: list[str]) -> Tensor:
    """Unit vector of a text less the mean of the unit vectors of others, [E] (thesis, section 2.5, note on the mean map)."""
    return clip.encode_text([text])[0] - clip.encode_text(against).mean(0)


def _draw_head(effects, direction: Tensor, layer: int, head: int, text: str) -> tuple[plots.Picture, str]:
    clip, norm = effects.clip, effects.total().norm()
    scores = effects.scores(direction[None], over="head")[0, :, :, 0] / norm
    tokens = effects.head_tokens(layer, head)[0] @ direction.to(norm) / norm
    figure = plots.head_view(effects.pixels[0], scores, tokens, clip.grid, layer, head, text)
    rank = int((scores > scores[layer, head]).sum()) + 1
    return figure, (
        f"L{layer}H{head} adds {scores[layer, head]:+.3f} to the match of this image with “{text}”: "
        f"rank {rank} of {scores.numel()} heads"
    )


def head_explorer(clip: Clip, images: list[Tensor], against: list[str], text: str, names: list[str] | None = None) -> Explorer:
    """Pick an image, a layer, a head and a text; see the score of every head and the token map of the one picked.

    images: preprocessed [3, H, W]; against: texts whose mean is subtracted from the text; names: what to call the images.
    """
    if not images:
        raise ValueError("need at least one image")
    effects = {}

    def draw(image: int, layer: int, head: int, text: str) -> tuple[plots.Picture, str]:
        if image not in effects:
            effects[image] = direct_effects(clip, images[image][None])
        return _draw_head(effects[image], text_direction(clip, text, against), layer, head, text)

    slider = {"style": {"description_width": "50px"}, "continuous_update": False}
    options = [(name, k) for k, name in enumerate(names or [f"image {k}" for k in range(len(images))])]
    return Explorer(
        draw,
        image=ipywidgets.Dropdown(options=options, value=0, description="image", style=slider["style"]),
        layer=ipywidgets.IntSlider(clip.n_layers - 1, 0, clip.n_layers - 1, description="layer", **slider),
        head=ipywidgets.IntSlider(0, 0, clip.n_heads - 1, description="head", **slider),
        text=ipywidgets.Text(text, description="text", **slider),
    )
