"""Widgets of chapter 3."""

import ipywidgets
import torch
from PIL import Image
from torch import Tensor

from .. import plots
from ..images import read_image
from ..neurons import SecondOrder, SparseTexts, activation_maps, discover_concepts
from ..sandbox import Caption, fact_of_prompt, truth
from ..stream import pixels_and_target
from .base import Explorer, page_of
from .controls import Search
from .views import UnitCard, address, rounded

OWN = "my own image"
LARGEST = 1024  # pixels of a side of what is uploaded
_STYLE = {"style": {"description_width": "50px"}}


def draw_neuron(
    images, order: SecondOrder, texts: SparseTexts, neuron: int, n_texts: int = 6, n_images: int = 6
) -> tuple[plots.Picture, str]:
    """A neuron's texts with signs and weights, its top images, and where it is active on each, with a sentence.

    images: the dataset that the layer was fitted on; texts: of the layer's directions. Raises IndexError for a neuron that is
    not there, RuntimeError for a layer that is not fitted.
    """
    found, sentence = _neuron(images, order, texts, neuron, n_texts, n_images)
    return plots.neuron_view(f"L{order.layer}N{neuron}", *found), sentence


def _neuron(images, order: SecondOrder, texts: SparseTexts, neuron: int, n_texts: int = 6, n_images: int = 6):
    """What a neuron's figure and its card show: its texts, their weights, its top images, x of each, maps; and the sentence."""
    fitted = order.rank_one
    if not 0 <= neuron < len(fitted.directions):
        raise IndexError(f"no neuron {neuron}: layer {order.layer} has {len(fitted.directions)}")
    name, said = f"L{order.layer}N{neuron}", texts.of(neuron, n_texts)
    numbers = fitted.top_images[:n_images, neuron].tolist()
    pixels = torch.stack([pixels_and_target(images[number], order.clip.preprocess)[0] for number in numbers])
    along = order.on(pixels).less(fitted.centre).along(fitted.lines)[:, neuron].tolist()
    maps = activation_maps(order.clip, pixels, order.layer, [neuron])[:, 0]
    share = fitted.top_share[neuron].item()
    found = [text for text, _ in said], [weight for _, weight in said], list(pixels), along, maps
    if not said:
        return found, f"{name} writes nothing that a text describes"
    words = ", ".join(f"{'+' if weight > 0 else '-'}“{text}”" for text, weight in said[:4])
    return found, f"{name} writes {words}; one direction carries {share:.0%} of its largest effects"


def neuron_explorer(
    images, orders: list[SecondOrder], texts: dict[int, SparseTexts], layer: int | None = None, neuron: int = 0
) -> Explorer:
    """Pick a layer and a neuron; see its texts with signs and weights, its top images, and its activation map on each.

    images: the dataset that the layers were fitted on; texts: of each layer's directions, by layer. Neurons are listed with their
    first text, the one with the largest effects on top.
    """
    by_layer = {order.layer: order for order in orders}
    if not by_layer or set(by_layer) != set(texts):
        raise ValueError(f"need texts for each layer, got layers {sorted(by_layer)} and texts for {sorted(texts)}")

    def draw(layer: int, neuron: int) -> tuple[plots.Picture, str]:
        return draw_neuron(images, by_layer[layer], texts[layer], neuron)

    card = UnitCard(label="weight of each text in the direction; images with the largest effects (x times 100), where it is active")

    def show(layer: int, neuron: int) -> str:
        (said, weights, pixels, along, maps), sentence = _neuron(images, by_layer[layer], texts[layer], neuron)
        limit = maps.abs().max().item()
        card.texts = [{"text": text, "value": weight} for text, weight in zip(said, weights)]
        card.images = [
            {
                "image": address(image),
                "alt": f"top image {k + 1}, x\u00a0=\u00a0{100 * x:+.2f}",
                "map": rounded(each),
                "limit": limit,
            }
            for k, (image, x, each) in enumerate(zip(pixels, along, maps))
        ]
        return sentence

    def options(layer: int) -> list[tuple[str, int]]:
        strength = by_layer[layer].thresholds
        named = []
        for number in strength.argsort(descending=True).tolist():
            said = texts[layer].of(number, 1)
            named.append((f"{number}: {'+' if said[0][1] > 0 else '-'} {said[0][0]}" if said else f"{number}", number))
        return named

    layer = max(by_layer) if layer is None else layer
    level = ipywidgets.Dropdown(options=sorted(by_layer), value=layer, description="layer", **_STYLE)
    number = Search(options(layer), neuron, "neuron", **_STYLE)
    # before the explorer listens, so that it never sees a neuron of another layer
    level.observe(lambda change: setattr(number, "options", options(change["new"])), "value")
    every = {(k, n): {"layer": k, "neuron": n} for k, order in by_layer.items() for n in range(len(order.thresholds))}

    def page(layer: int, neuron: int) -> str:
        return page_of(f"L{layer}N{neuron}")

    return Explorer(draw, [card], show, {"neuron": every}, page=page, layer=level, neuron=number)


def draw_concepts(order: SecondOrder, texts: SparseTexts, pixels: Tensor, spec=None) -> tuple[plots.Picture, str]:
    """The texts that the active neurons of a layer speak for on one image, pixels [3, H, W] or PIL, with a sentence.

    spec: of a sandbox image, to mark which of them are true.
    """
    found, sentence = _concepts(order, texts, pixels, spec)
    return plots.concept_view(*found), sentence


def _concepts(order: SecondOrder, texts: SparseTexts, pixels: Tensor, spec) -> tuple[tuple, str]:
    """What is drawn and shown: (pixels, texts, scores, whether each is true, or None); and the sentence."""
    pixels, _ = pixels_and_target(pixels, order.clip.preprocess)
    found = discover_concepts(order, texts, pixels[None])[0]
    said, scores = [text for text, _ in found.texts], [score for _, score in found.texts]
    true = None
    if spec is not None:
        facts = fact_of_prompt()
        known = [Caption(text, (facts[text.casefold()],)) for text in said if text.casefold() in facts]
        holds = dict(zip((caption.text for caption in known), truth(known, [spec])[:, 0].tolist())) if known else {}
        true = [holds.get(text, False) for text in said]
    shown, active = (pixels, said, scores, true), len(found.active)
    if not said:
        return shown, f"{active} of {order.clip.d_mlp} neurons are active, and they speak for no text" if active else (
            f"none of {order.clip.d_mlp} neurons is active on this image, so nothing speaks for any text"
        )
    sentence = f"{active} of {order.clip.d_mlp} neurons are active and speak for " + ", ".join(f"“{t}”" for t in said[:5])
    return shown, sentence + ("" if true is None else f"; {sum(true)} of {len(said)} texts are true")


def concept_explorer(order: SecondOrder, texts: SparseTexts, images, names: list[str] | None = None) -> Explorer:
    """Pick an image, or bring your own, and see the concepts that the layer's active neurons find in it (figure B.1).

    images: a dataset as `stream.feed` takes it; names: what to call its first twelve images.
    """
    count = min(12, len(images))
    if count < 1:
        raise ValueError("need at least one image")
    labels, specs = names or [f"image {k}" for k in range(count)], getattr(images, "specs", None)
    choose = ipywidgets.Dropdown(options=[*zip(labels[:count], range(count)), (OWN, OWN)], value=0, description="image", **_STYLE)
    card = UnitCard(label="what the active neurons speak for")

    def draw(image, own) -> tuple[plots.Picture, str]:
        if image == OWN:
            return draw_concepts(order, texts, uploaded(own))
        return draw_concepts(order, texts, images[image], specs[image] if specs else None)

    def show(image, own) -> str:
        asked = (uploaded(own), None) if image == OWN else (images[image], specs[image] if specs else None)
        (pixels, said, scores, true), sentence = _concepts(order, texts, *asked)
        marks = [""] * len(said) if true is None else [" (true)" if holds else " (not true)" for holds in true]
        with card.hold_sync():
            card.texts = [{"text": text + mark, "value": score} for text, score, mark in zip(said, scores, marks)]
            card.images = [{"image": address(pixels), "alt": OWN if image == OWN else labels[image]}]
        return sentence

    return Explorer(draw, [card], show, image=choose, own=own_image(choose))


def own_image(choose: ipywidgets.Dropdown) -> ipywidgets.FileUpload:
    """A button for a reader's own image, which then is what a list of images shows. Make it before an explorer listens."""
    upload = ipywidgets.FileUpload(accept="image/*", multiple=False, description=OWN)
    upload.tooltip = "a photo or drawing from your disk"  # ipywidgets 7 has none
    upload.observe(lambda change: setattr(choose, "value", OWN), "value")
    return upload


def uploaded(value) -> Image.Image:
    """The image of an upload widget's value, in the format of ipywidgets 7 (a dict of files) or 8 (a tuple of files).

    A photo is made small before anything else is done with it.
    Raises ValueError before an image was uploaded, and, with the file's name, for one that cannot be read.
    """
    files = list(value.items()) if isinstance(value, dict) else [(file["name"], file) for file in value]
    if not files:
        raise ValueError(f"press “{OWN}” and choose a file first")
    name, file = files[-1]
    return read_image(bytes(file["content"]), name, LARGEST)
