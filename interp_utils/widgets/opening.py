"""Widgets of chapter 1."""

import ipywidgets
import torch
from torch import Tensor

from .. import plots
from ..models import Clip
from ..stream import pixels_and_target
from ..texts import knows
from .base import Explorer
from .neurons import OWN, own_image, uploaded
from .views import UnitCard, address

MOST = 24  # names that a figure can hold


def zero_shot(clip: Clip, pixels: Tensor, names: list[str], prompt: str = "{}") -> Tensor:
    """Probability of each name for each image, [B, T]: softmax of the cosines times the model's own scale (Radford et al. 2021).

    pixels: [B, 3, H, W]; prompt: the sentence around each name, with {} in its place.
    Raises what `encode_text` raises, for a prompt without {} among others.
    """
    texts = clip.encode_text(names, [prompt])
    with torch.no_grad():
        images = torch.nn.functional.normalize(clip.encode_image(pixels).float(), dim=-1)
        return (clip.model.logit_scale.exp() * images @ texts.T).softmax(-1)


def draw_zero_shot(clip: Clip, pixels: Tensor, names: str, prompt: str = "{}") -> tuple[plots.Picture, str]:
    """How CLIP classifies one image, pixels [3, H, W] or PIL, among names that are separated by commas, with a sentence.

    Raises ValueError for fewer than two different names, or more than a figure can hold.
    """
    found, sentence = _zero_shot(clip, pixels, names, prompt)
    return plots.zero_shot_view(*found), sentence


def _zero_shot(clip: Clip, pixels: Tensor, names: str, prompt: str) -> tuple[tuple, str]:
    """What is drawn and shown: (pixels, names, probabilities, whether each name is unknown); and the sentence."""
    pixels, _ = pixels_and_target(pixels, clip.preprocess)
    split = list(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    if not 2 <= len(split) <= MOST:
        raise ValueError(f"need 2 to {MOST} different names, separated by commas; got {len(split)}")
    probabilities = zero_shot(clip, pixels[None], split, prompt)[0].tolist()
    unknown = [not known for known in knows(clip, split)]
    order = sorted(range(len(split)), key=lambda k: -probabilities[k])
    sentence = "the image is " + ", ".join(f"“{split[k]}” {probabilities[k]:.1%}" for k in order[:4])
    if any(unknown):
        odd = ", ".join(f"“{name}”" for name, is_odd in zip(split, unknown) if is_odd)
        sentence += f"; the model never learned a word of {odd}, so that bar means nothing"
    if not knows(clip, [prompt.replace("{}", "")])[0]:
        sentence += "; it never learned all words of the prompt"
    return (pixels, split, probabilities, unknown), sentence


def zero_shot_explorer(
    clip: Clip, images: list[Tensor], names: str, prompt: str = "{}", labels: list[str] | None = None
) -> Explorer:
    """Pick an image or bring your own, type names separated by commas, and see the probability of each.

    images: a dataset as `stream.feed` takes it; prompt: the sentence around each name; labels: what to call the images.
    """
    if len(images) == 0:
        raise ValueError("need at least one image")
    labels = labels or [f"image {k}" for k in range(len(images))]
    wide = {"style": {"description_width": "50px"}, "continuous_update": False}
    choose = ipywidgets.Dropdown(
        options=[*zip(labels, range(len(images))), (OWN, OWN)], value=0, description="image", style=wide["style"]
    )
    upload = own_image(choose)
    card = UnitCard(label="probability of each name", percent=True)

    def draw(image, own, names: str, prompt: str) -> tuple[plots.Picture, str]:
        return draw_zero_shot(clip, uploaded(own) if image == OWN else images[image], names, prompt)

    def show(image, own, names: str, prompt: str) -> str:
        found, sentence = _zero_shot(clip, uploaded(own) if image == OWN else images[image], names, prompt)
        pixels, split, probabilities, unknown = found
        with card.hold_sync():
            card.texts = [
                {"text": f"{name} (unknown word)" if odd else name, "value": share}
                for name, share, odd in zip(split, probabilities, unknown)
            ]
            card.images = [{"image": address(pixels), "alt": OWN if image == OWN else labels[image]}]
        return sentence

    return Explorer(
        draw,
        [card],
        show,
        image=choose,
        own=upload,
        names=ipywidgets.Text(names, description="names", layout={"width": "520px"}, **wide),
        prompt=ipywidgets.Text(prompt, description="prompt", **wide),
    )
