"""What stands in an atlas, measured in a few passes over the images. All of it is numbers and text; pages are made elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .. import neurons as nn
from ..checks import checked_count
from ..datasets.common import take
from ..heads import factor_shares, head_moments, kind_shares, textspan, token_maps, top_images
from ..heads.textspan import Head
from ..models import Clip
from ..moments import TopK
from ..sandbox import Caption, Spec, fact_of_prompt, truth
from ..stream import feed
from ..texts import Pool
from ..widgets.views import picture, rounded

BATCH = 16  # images whose maps are made at the same time


@dataclass(frozen=True)
class Atlas:
    """Entries as dictionaries of plain numbers and text, ready for JSON; `names` of heads are L7H2, of neurons L7N76."""

    about: dict  # the model, its sizes, and what was measured on
    heads: list[dict]  # layer by layer: texts with explained variance and top images, kinds, neighbours, truth where known
    neurons: list[dict]  # texts with signed weights, top images
    texts: list[dict]  # each text that names one of these, and which it names
    pictures: dict[int | str, object]  # PIL images that entries show, by their number in the dataset, or the name of a drawn one
    captions: dict[int | str, str]  # what they show, as far as it is known
    concepts: list[dict] = field(default_factory=list)  # of chapter 4, see `measure_concepts`


def measure(
    clip: Clip, images: Sequence, pool: Pool, n_texts: int = 5, n_images: int = 4, n_neurons: int = 16, factors: bool = False
) -> Atlas:
    """Describe every head, and of each of the `late_layers` the `n_neurons` neurons with the largest effects.

    images: a dataset as `stream.feed` takes it; pool: the texts to choose from. Of each head and neuron `n_texts` texts are kept
    and `n_images` top images, with a map each: what each patch writes through the head toward the text, less toward the pool's
    mean (thesis, figure A.3), or where the neuron is active (figure 3.6). factors: for the sandbox's
    CLIPs and images, what is true of them as well.
    Raises ValueError for fewer than two images, or no text.
    """
    n_texts, n_images = checked_count("n_texts", n_texts), checked_count("n_images", n_images, len(images))
    if len(images) < 2 or not pool.texts:
        raise ValueError(f"need at least two images and one text, got {len(images)} images and {len(pool.texts)} texts")
    features = clip.encode_text(pool.texts)
    heads, tops, toward = _heads(clip, images, pool, features, n_texts, n_images)
    if factors:
        for name, shares in factor_shares(clip, 4 * len(images)).items():
            for entry, share in zip(heads, shares.flatten().tolist()):
                entry.setdefault("truth", {})[name] = share
    neurons = _neurons(clip, images, pool, features, n_texts, n_images, n_neurons) if n_neurons else []
    texts = _texts(clip, images, pool, features, heads, neurons, n_images)
    _add_maps(clip, images, heads, tops, toward, texts, features, pool)
    if factors:
        for entry in texts:
            entry |= _true(entry, images.specs)
    shown = {image["number"] for entry in texts for image in entry["images"]}
    shown |= {image["number"] for entry in heads for text in entry["texts"] for image in text["images"]}
    shown |= {image["number"] for entry in neurons for image in entry["images"]}
    pictures = {number: picture(take(images, [number])[0][0]) for number in sorted(shown)}
    about = {
        "model": clip.name, "layers": clip.n_layers, "heads": clip.n_heads, "grid": list(clip.grid), "images": len(images),
        "pool": len(pool.texts),
    }  # fmt: skip
    captions = {number: f"image {number}" for number in pictures}
    if factors:
        captions = {number: f"{name}: {_words(images.specs[number])}" for number, name in captions.items()}
    return Atlas(about, heads, neurons, texts, pictures, captions)


def _heads(
    clip: Clip, images, pool: Pool, features: Tensor, n_texts: int, n_images: int
) -> tuple[list[dict], dict[Head, Tensor], dict[Head, Tensor]]:
    """Entries without images; of each head the numbers of its texts' images, [m, k], and its texts less the mean text, [m, E]."""
    spans = {
        head: textspan(moments, features, pool.texts, max(n_texts, 10)) for head, moments in head_moments(clip, images).items()
    }
    tops, entries, base = top_images(clip, images, spans, features, n_images), [], features.mean(0)
    tops = {head: numbers.T[:n_texts] for head, numbers in tops.items()}
    for (layer, head), span in spans.items():
        near = sorted(((span.overlap(other), key) for key, other in spans.items() if key != (layer, head)), reverse=True)[:3]
        entries.append({
            "name": f"L{layer}H{head}", "layer": layer, "head": head,
            "explained": span.explained[:n_texts].sum().item(),
            "kinds": {kind: share for kind, share in kind_shares(span, pool.kinds).items() if kind} if span.texts else {},
            "neighbours": [{"name": f"L{key[0]}H{key[1]}", "overlap": overlap} for overlap, key in near],
            "texts": [
                {"text": text, "explained": span.explained[row].item()} for row, text in enumerate(span.texts[:n_texts])
            ],
        })  # fmt: skip
    return entries, tops, {head: features[span.indices[:n_texts]] - base for head, span in spans.items()}


class _Maps:
    """Maps of single images, by what they are of and the image's number."""

    def __init__(self):
        self.found = {}

    def update(self, found: dict) -> None:
        self.found |= found


def _add_maps(clip, images, heads: list[dict], tops: dict, toward: dict, texts: list[dict], features: Tensor, pool: Pool) -> None:
    """Give the images of heads and of texts their maps, as shares of the representations' lengths, in one pass over them all."""
    places = {text: place for place, text in enumerate(pool.texts)}
    wanted = features[[places[entry["text"]] for entry in texts]] - features.mean(0)
    shown = {text: set(entry["images"]) for text, entry in enumerate(texts)}
    rows_of = {head: set(numbers.flatten().tolist()) for head, numbers in tops.items()}
    maps = _Maps()

    def view(batch):
        numbers, found = batch.numbers.tolist(), {}
        here = {head: vectors for head, vectors in toward.items() if rows_of[head].intersection(numbers)}
        for head, scores in batch.effects.head_token_scores(here).items() if here else ():
            each = (scores[:, clip.n_prefix :] / batch.length[:, None]).movedim(2, 1).unflatten(-1, clip.grid).cpu()
            found |= {(head, number): each[row] for row, number in enumerate(numbers) if number in rows_of[head]}
        asked = [text for text, chosen in shown.items() if chosen.intersection(numbers)]
        if asked:
            every = (token_maps(batch.effects, wanted[asked]) / batch.length[:, :, None, None]).cpu()
            found |= {
                (text, number): every[row, column]
                for column, text in enumerate(asked)
                for row, number in enumerate(numbers)
                if number in shown[text]
            }
        return found

    every = sorted(set().union(*shown.values(), *rows_of.values()))
    feed(clip, images, [(maps, view)], batch_size=BATCH, numbers=every)
    for entry in heads:
        head = entry["layer"], entry["head"]
        for row, text in enumerate(entry["texts"]):
            text["images"] = [_shown(number, maps.found[head, number][row]) for number in tops[head][row].tolist()]
    for text, entry in enumerate(texts):
        entry["images"] = [_shown(number, maps.found[text, number]) for number in entry["images"]]


def _neurons(clip: Clip, images, pool: Pool, features: Tensor, n_texts: int, n_images: int, n_neurons: int) -> list[dict]:
    late = nn.late_layers(clip.n_layers) if clip.n_layers >= 4 else range(clip.n_layers - 1)
    orders, entries = [nn.second_order(clip, layer, relative=True) for layer in late], []
    nn.fit(orders, images, top=max(n_images, round(0.02 * len(images))))  # the thesis: 100 of about 5,000
    for order in orders:
        chosen = order.thresholds.argsort(descending=True)[:n_neurons].tolist()
        texts = nn.sparse_texts(order.directions[chosen], features, pool.texts, min(len(pool.texts), 2 * n_texts))
        tops = order.rank_one.top_images[:n_images, chosen].T  # [n, k]
        unique, place = tops.unique(return_inverse=True)
        maps = torch.cat([
            nn.activation_maps(clip, take(images, part.tolist())[0], order.layer, chosen).cpu() for part in unique.split(BATCH)
        ])  # fmt: skip
        for row, neuron in enumerate(chosen):
            entries.append({
                "name": f"L{order.layer}N{neuron}", "layer": order.layer, "neuron": neuron,
                "one_direction": order.rank_one.top_share[neuron].item(),
                "texts": [{"text": text, "weight": weight} for text, weight in texts.of(row, n_texts)],
                "images": [_shown(number, maps[k, row]) for number, k in zip(tops[row].tolist(), place[row].tolist())],
            })  # fmt: skip
    return entries


def _texts(clip: Clip, images, pool: Pool, features: Tensor, heads: list[dict], neurons: list[dict], n_images: int) -> list[dict]:
    """Each text that names a head or a neuron: whom it names, and the numbers of the images closest to it."""
    named: dict[str, dict] = {}
    for kind, entries, value in (("heads", heads, "explained"), ("neurons", neurons, "weight")):
        for entry in entries:
            for text in entry["texts"]:
                about = named.setdefault(text["text"], {"text": text["text"], "heads": [], "neurons": []})
                about[kind].append({"name": entry["name"], value: text[value]})
    places = {text: place for place, text in enumerate(pool.texts)}
    chosen = [places[text] for text in named]
    wanted, best = features[chosen], TopK(n_images)

    def closest(batch):
        return batch.representation @ wanted.to(batch.representation).T, batch.numbers

    feed(clip, images, [(best, closest)])
    for text, about in enumerate(named.values()):
        about["kind"], about["images"] = pool.kinds[chosen[text]], best.images[:, text].tolist()
    return list(named.values())


def _true(entry: dict, specs: list) -> dict:
    """On the sandbox, how many of a text's images show what it states, and the share of all images that do."""
    fact = fact_of_prompt().get(entry["text"].casefold())
    if fact is None:
        return {}
    holds = truth([Caption(entry["text"], (fact,))], specs)[0]
    return {"true": sum(bool(holds[image["number"]]) for image in entry["images"]), "base": float(holds.mean())}


def _shown(number: int, each: Tensor) -> dict:
    return {"number": number, "map": rounded(each)}


def _words(spec: Spec) -> str:
    return f"{spec.count} {spec.object}, {spec.colour}, {spec.texture}; {spec.scene}, {spec.weather}; {spec.style}"
