"""Widgets of chapter 2."""

import ipywidgets
import torch
from torch import Tensor
from torchvision.transforms.functional import to_tensor

from .. import plots
from ..heads import TextSpan, direct_effects, neighbours, shared_factors
from ..heads.textspan import Head
from ..models import Clip
from ..stream import pixels_and_target
from ..texts import knows
from .base import Explorer, page_of
from .controls import Search
from .views import HeadGrid, PatchMap, UnitCard, address, rounded


def draw_head(
    clip: Clip, pixels: Tensor, layer: int, head: int, text: str, against: list[str], ln: str | None = None
) -> tuple[plots.Picture, str]:
    """What one head sees on one image, pixels [3, H, W] or PIL, for a text: score of every head and its token map, with a sentence.

    The score is the head's direct effect times the text's unit vector, less the mean over the texts in `against`, as a share
    of the length of the image's representation. Raises IndexError for a head that is not there, ValueError for a blank text.
    """
    if not (0 <= layer < clip.n_layers and 0 <= head < clip.n_heads):
        raise IndexError(f"no head L{layer}H{head}: the model has {clip.n_layers} layers of {clip.n_heads} heads")
    pixels, _ = pixels_and_target(pixels, clip.preprocess)
    return _draw_head(direct_effects(clip, pixels[None], ln), text_direction(clip, text, against), layer, head, text)


def text_direction(clip: Clip, text: str, against: list[str]) -> Tensor:
    """Unit vector of a text less the mean of the unit vectors of others, [E] (thesis, section 2.5, note on the mean map)."""
    return clip.encode_text([text])[0] - clip.encode_text(against).mean(0)


def _draw_head(effects, direction: Tensor, layer: int, head: int, text: str) -> tuple[plots.Picture, str]:
    scores, tokens = _scores(effects, direction)
    figure = plots.head_view(effects.pixels[0], scores, tokens[layer, head], effects.clip.grid, layer, head, text)
    return figure, _head_sentence(scores, layer, head, text) + _unknown(effects.clip, text)


def _scores(effects, direction: Tensor) -> tuple[Tensor, Tensor]:
    """Of every head [L, H], and of each token through it [L, H, N], as shares of the representation's length."""
    norm = effects.total().norm()
    tokens = effects.scores(direction[None], over="head_token")[0, ..., 0]
    return effects.scores(direction[None], over="head")[0, :, :, 0] / norm, tokens / norm


def _head_sentence(scores: Tensor, layer: int, head: int, text: str) -> str:
    rank = int((scores > scores[layer, head]).sum()) + 1
    return (
        f"L{layer}H{head} adds {scores[layer, head]:+.2g} to the match of this image with “{text}”: "
        f"rank {rank} of {scores.numel()} heads"
    )


def _unknown(clip: Clip, text: str) -> str:
    return "" if knows(clip, [text])[0] else "; the model never learned all of its words, so this means little"


def head_explorer(
    clip: Clip, images: list[Tensor], against: list[str], text: str, names: list[str] | None = None, start: Head | None = None
) -> Explorer:
    """Pick an image, a head and a text; see the score of every head and the token map of the one picked.

    images: a dataset as `stream.feed` takes it; against: texts whose mean is subtracted from the text; names: of the images; start:
    the head to open with, by default the first of the last layer.
    The head is picked in the grid of all heads, or with the sliders; the map's patches tell their values.
    """
    if len(images) == 0:
        raise ValueError("need at least one image")
    labels = names or [f"image {k}" for k in range(len(images))]
    grid = HeadGrid(rows=clip.n_layers, columns=clip.n_heads, shown="score", label="heads")
    patches = PatchMap(names=[f"L{layer}H{head}" for layer in range(clip.n_layers) for head in range(clip.n_heads)])
    effects, latest = {}, {}

    def seen(image: int):
        if image not in effects:
            pixels, _ = pixels_and_target(images[image], clip.preprocess)
            effects[image] = direct_effects(clip, pixels[None])
        return effects[image]

    def draw(image: int, layer: int, head: int, text: str) -> tuple[plots.Picture, str]:
        return _draw_head(seen(image), text_direction(clip, text, against), layer, head, text)

    def show(image: int, layer: int, head: int, text: str) -> str:
        if latest.get("of") != (image, text):
            latest["scores"], tokens = _scores(seen(image), text_direction(clip, text, against))
            latest["of"] = image, text
            maps = tokens[..., clip.n_prefix :].flatten(0, 1).unflatten(-1, clip.grid)
            with patches.hold_sync():
                patches.image, patches.alt = address(seen(image).pixels[0]), labels[image]
                patches.maps = rounded(maps)
            grid.scores = {"score": rounded(latest["scores"].flatten())}
        grid.picked = patches.picked = layer * clip.n_heads + head
        return _head_sentence(latest["scores"], layer, head, text) + _unknown(clip, text)

    slider = {"style": {"description_width": "50px"}, "continuous_update": False}
    layer, head = start or (clip.n_layers - 1, 0)
    explorer = Explorer(
        draw,
        [grid, patches],
        show,
        {"head": {(k, h): {"layer": k, "head": h} for k in range(clip.n_layers) for h in range(clip.n_heads)}},
        page=lambda layer, head, **others: page_of(f"L{layer}H{head}"),
        image=ipywidgets.Dropdown(options=[*zip(labels, range(len(images)))], value=0, description="image", style=slider["style"]),
        layer=ipywidgets.IntSlider(layer, 0, clip.n_layers - 1, description="layer", **slider),
        head=ipywidgets.IntSlider(head, 0, clip.n_heads - 1, description="head", **slider),
        text=ipywidgets.Text(text, description="text", **slider),
    )
    explorer.linked = ipywidgets.jsdlink((grid, "picked"), (patches, "picked"))  # in the browser, whatever the kernel does

    def pick(change) -> None:
        layer, head = divmod(change["new"], clip.n_heads)
        if (layer, head) != (explorer.controls["layer"].value, explorer.controls["head"].value):
            explorer.move(layer=layer, head=head)

    grid.observe(pick, "picked")
    return explorer


def draw_span(
    images, spans: dict[Head, TextSpan], tops: dict[Head, Tensor], layer: int, head: int, n_texts: int = 6
) -> tuple[plots.Picture, str]:
    """The first texts of one head with explained variance and top images, and its overlap with other heads, with a sentence.

    images: the dataset that `tops` (see `heads.top_images`) counts in. Raises IndexError for a head that has no span.
    """
    explained, shown, overlaps, sentence = _span(images, spans, tops, layer, head, n_texts)
    layers, n_heads = sorted({key[0] for key in spans}), 1 + max(key[1] for key in spans)
    overlap = torch.full((len(layers), n_heads), float("nan"))  # blank where a head has no span
    for (level, k), value in overlaps.items():
        overlap[layers.index(level), k] = value
    texts = spans[layer, head].texts[: len(explained)]
    return plots.span_view(f"L{layer}H{head}", texts, explained, shown, overlap, (layer, head), layers), sentence


def _span(images, spans: dict[Head, TextSpan], tops: dict, layer: int, head: int, n_texts: int = 6) -> tuple:
    """What is drawn and shown: variance explained by each text, its images, the overlap with every head; and the sentence."""
    if (layer, head) not in spans:
        raise IndexError(f"no text span for L{layer}H{head}; there are spans for layers {sorted({key[0] for key in spans})}")
    span, top = spans[layer, head], tops[layer, head]
    count = min(n_texts, len(span.texts))
    if count == 0:
        raise ValueError(f"L{layer}H{head} writes the same for all images: no text describes it")
    shown = [[_pixels(images[int(k)]) for k in top[:, row]] for row in range(count)]
    explained, overlaps = span.explained[:count].tolist(), {key: span.overlap(other) for key, other in spans.items()}
    others = [key for key in spans if key != (layer, head)]
    nearest = max(others, key=overlaps.get) if others else (layer, head)
    said = ", ".join(f"“{text}”" for text in span.texts[:count])
    sentence = (
        f"L{layer}H{head}: {said} explain {sum(explained):.0%} of its variance; "
        f"its texts overlap most with those of L{nearest[0]}H{nearest[1]} ({overlaps[nearest]:.0%})"
    )
    return explained, shown, overlaps, sentence


def span_explorer(images, spans: dict[Head, TextSpan], tops: dict[Head, Tensor], start: Head | None = None) -> Explorer:
    """Pick a head; see its texts with explained variance, the top images of each, and its overlap with other heads."""
    if not spans:
        raise ValueError("need at least one text span")
    layers = sorted({key[0] for key in spans})
    layer, head = start or max(spans)
    style = {"style": {"description_width": "50px"}}

    first, rows, columns = layers[0], layers[-1] - layers[0] + 1, 1 + max(key[1] for key in spans)
    places = [(first + k // columns, k % columns) for k in range(rows * columns)]
    grid = HeadGrid(rows=rows, columns=columns, first=first, shown="overlap of texts", label="heads")
    grid.notes = [spans[key].texts[0] if key in spans and spans[key].texts else "no texts" for key in places]
    card = UnitCard(label="variance that each text explains, and the images that say most of it", percent=True)

    def draw(layer: int, head: int) -> tuple[plots.Picture, str]:
        return draw_span(images, spans, tops, layer, head)

    def show(layer: int, head: int) -> str:
        explained, shown, overlaps, sentence = _span(images, spans, tops, layer, head)
        pictures = [
            [{"image": address(each), "alt": f"image {k + 1} of them", "caption": ""} for k, each in enumerate(row)]
            for row in shown
        ]
        texts = zip(spans[layer, head].texts, explained, pictures)
        card.texts = [{"text": text, "value": share, "images": images} for text, share, images in texts]
        grid.scores = {"overlap of texts": [float(f"{overlaps.get(key, 0.0):.3g}") for key in places]}
        grid.picked = places.index((layer, head))
        return sentence

    def heads(layer: int) -> list[tuple[str, int]]:
        of_layer = {key[1]: span for key, span in sorted(spans.items()) if key[0] == layer}
        return [(": ".join([str(number), *span.texts[:1]]), number) for number, span in of_layer.items()]

    level = ipywidgets.Dropdown(options=layers, value=layer, description="layer", **style)
    number = ipywidgets.Dropdown(options=heads(layer), value=head, description="head", **style)
    # only heads that have a span; before the explorer listens, so that it never sees one of another layer
    level.observe(lambda change: setattr(number, "options", heads(change["new"])), "value")
    picks = {"head": {key: {"layer": key[0], "head": key[1]} for key in spans}}

    def page(layer: int, head: int) -> str:
        return page_of(f"L{layer}H{head}")

    explorer = Explorer(draw, [grid, card], show, picks, page=page, layer=level, head=number)

    def pick(change) -> None:
        key, there = places[change["new"]], (level.value, number.value)
        if key in spans and key != there:
            explorer.move(layer=key[0], head=key[1])
        elif key not in spans:
            grid.picked = places.index(there)
            explorer.manners.done()

    grid.observe(pick, "picked")
    return explorer


def draw_neighbours(images, features: dict[Head | None, Tensor], image: int, head: Head) -> tuple[plots.Picture, str]:
    """The eight neighbours of an image by one head and by the whole representation, and on the sandbox which factors they share.

    features: of all images, from `heads.head_features`.
    """
    found, shared, sentence = _neighbours(images, features, image, head)
    rows = {name: [_pixels(images[number]) for number in numbers] for name, numbers in found.items()}
    return plots.neighbour_view(_pixels(images[image]), rows, shared), sentence


def _neighbours(images, features: dict[Head | None, Tensor], image: int, head: Head) -> tuple[dict, dict, str]:
    """Numbers of neighbours by name of who sees them; shares that agree with the query, by name and factor; the sentence."""
    found = {f"L{head[0]}H{head[1]}": neighbours(features[head], image), "the whole": neighbours(features[None], image)}
    specs = getattr(images, "specs", None)
    everywhere = {"all images": [k for k in range(len(specs)) if k != image]} if specs else {}
    shared = {name: shared_factors(specs, image, numbers) for name, numbers in (found | everywhere).items()} if specs else {}
    if not shared:
        name, nearest = next(iter(found.items()))
        return found, shared, f"{len(nearest)} nearest images by {name} and by the whole representation"
    by_head, by_whole, _ = shared.values()
    known = [factor for factor in by_head if by_head[factor] == by_head[factor] and by_whole[factor] == by_whole[factor]]  # not nan
    pairs = ", ".join(f"{factor} {by_head[factor]:.0%} / {by_whole[factor]:.0%}" for factor in known)
    return found, shared, f"neighbours that agree with the query, by {next(iter(found))} / by the whole representation: {pairs}"


def neighbour_explorer(images, features: dict[Head | None, Tensor], names: list[str] | None = None) -> Explorer:
    """Pick an image and a head; see its neighbours in the eyes of that head beside those of the whole representation.

    names: what to call the heads, in the order of `features`.
    """
    heads = [head for head in features if head is not None]
    if not heads:
        raise ValueError("need the features of at least one head")
    labels, specs = names or [f"L{layer}H{head}" for layer, head in heads], getattr(images, "specs", None)
    style = {"description_width": "50px"}
    called = [f"{k}: {specs[k].object}, {specs[k].scene}" if specs else f"image {k}" for k in range(len(features[None]))]

    def draw(image: int, head: Head) -> tuple[plots.Picture, str]:
        return draw_neighbours(images, features, image, head)

    label = "the image; its neighbours" + (", and in how many of its factors they agree with it on average" if specs else "")
    card = UnitCard(label=label, percent=True)

    def show(image: int, head: Head) -> str:
        found, shared, sentence = _neighbours(images, features, image, head)
        seen = {"the image": [image]} | {f"nearest by {name}": numbers for name, numbers in found.items()}
        shares = {"the image": None} | {f"nearest by {name}": _mean(shared.get(name)) for name in found}
        rows = [
            {"text": name, "value": shares[name], "images": [
                {"image": address(_pixels(images[int(number)])), "alt": called[int(number)]} for number in numbers
            ]}
            for name, numbers in seen.items()
        ]  # fmt: skip
        card.texts = rows + [{"text": "all images", "value": _mean(each)} for name, each in shared.items() if name not in found]
        return sentence

    return Explorer(
        draw,
        [card],
        show,
        picks={"head": {head: {"head": head} for head in heads}},
        page=lambda image, head: page_of("L{}H{}".format(*head)),
        image=Search([*zip(called, range(len(called)))], 0, "image", style=style),
        head=ipywidgets.Dropdown(options=list(zip(labels, heads)), value=heads[0], description="head", style=style),
    )


def _mean(shares: dict[str, float] | None) -> float | None:
    """Over the factors that are known of some pair, None where there is none."""
    known = [share for share in (shares or {}).values() if share == share]
    return sum(known) / len(known) if known else None


def _pixels(item) -> Tensor:
    """The pixels [3, H, W] of an item of a dataset, to look at."""
    return pixels_and_target(item, to_tensor)[0]
