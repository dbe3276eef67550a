"""What stands in an atlas, measured in a few passes over the images. All of it is numbers and text; pages are made elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import neurons as nn
from ..checks import checked_count
from ..datasets.common import take
from ..heads import direct_effects, factor_shares, head_moments, kind_shares, textspan, token_maps, top_images
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
    pictures: dict[int, object]  # PIL images that entries show, by their number in the dataset
    captions: dict[int, str]  # what they show, as far as it is known


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
    heads = _heads(clip, images, pool, features, n_texts, n_images)
    if factors:
        for name, shares in factor_shares(clip, 4 * len(images)).items():
            for entry, share in zip(heads, shares.flatten().tolist()):
                entry.setdefault("truth", {})[name] = share
    neurons = _neurons(clip, images, pool, features, n_texts, n_images, n_neurons) if n_neurons else []
    texts = _texts(clip, images, pool, features, heads, neurons, n_images)
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


def _heads(clip: Clip, images, pool: Pool, features: Tensor, n_texts: int, n_images: int) -> list[dict]:
    spans = {
        head: textspan(moments, features, pool.texts, max(n_texts, 10)) for head, moments in head_moments(clip, images).items()
    }
    tops, entries, base = top_images(clip, images, spans, features, n_images), [], features.mean(0)
    for (layer, head), span in spans.items():
        near = sorted(((span.overlap(other), key) for key, other in spans.items() if key != (layer, head)), reverse=True)[:3]
        numbers = tops[layer, head].T[:n_texts]  # [m, k]
        toward = features[span.indices[:n_texts]] - base
        maps = _head_maps(clip, images, layer, head, numbers, toward)
        entries.append({
            "name": f"L{layer}H{head}", "layer": layer, "head": head,
            "explained": span.explained[:n_texts].sum().item(),
            "kinds": {kind: share for kind, share in kind_shares(span, pool.kinds).items() if kind} if span.texts else {},
            "neighbours": [{"name": f"L{key[0]}H{key[1]}", "overlap": overlap} for overlap, key in near],
            "texts": [
                {"text": text, "explained": span.explained[row].item(), "images": _shown(numbers[row], maps[row])}
                for row, text in enumerate(span.texts[:n_texts])
            ],
        })  # fmt: skip
    return entries


def _head_maps(clip: Clip, images, layer: int, head: int, numbers: Tensor, toward: Tensor) -> list[Tensor]:
    """For each text [m, E] the maps of its images [m, k]: [k, rows, columns], as shares of the representations' lengths."""
    unique, place = numbers.unique(return_inverse=True)
    tokens = []
    for start in range(0, len(unique), BATCH):
        pixels, _ = take(images, unique[start : start + BATCH].tolist())
        effects = direct_effects(clip, pixels)
        found = effects.head_tokens(layer, head)[:, clip.n_prefix :]
        tokens.append((found / effects.total().norm(dim=-1)[:, None, None]).cpu())
    every = torch.cat(tokens) if tokens else torch.zeros(0)
    return [(every[chosen] @ text.cpu().to(every)).unflatten(-1, clip.grid) for chosen, text in zip(place, toward)]


def _neurons(clip: Clip, images, pool: Pool, features: Tensor, n_texts: int, n_images: int, n_neurons: int) -> list[dict]:
    late = nn.late_layers(clip.n_layers) if clip.n_layers >= 4 else range(clip.n_layers - 1)
    orders, entries = [nn.second_order(clip, layer, relative=True) for layer in late], []
    nn.fit(orders, images, top=max(n_images, round(0.02 * len(images))))  # the thesis: 100 of about 5,000
    for order in orders:
        chosen = order.thresholds.argsort(descending=True)[:n_neurons].tolist()
        texts = nn.sparse_texts(order.directions[chosen], features, pool.texts, min(len(pool.texts), 2 * n_texts))
        for row, neuron in enumerate(chosen):
            numbers = order.rank_one.top_images[:n_images, neuron]
            pixels, _ = take(images, numbers.tolist())
            maps = nn.activation_maps(clip, pixels, order.layer, [neuron])[:, 0].cpu()
            entries.append({
                "name": f"L{order.layer}N{neuron}", "layer": order.layer, "neuron": neuron,
                "one_direction": order.rank_one.top_share[neuron].item(),
                "texts": [{"text": text, "weight": weight} for text, weight in texts.of(row, n_texts)],
                "images": _shown(numbers, maps),
            })  # fmt: skip
    return entries


def _texts(clip: Clip, images, pool: Pool, features: Tensor, heads: list[dict], neurons: list[dict], n_images: int) -> list[dict]:
    """Each text that names a head or a neuron: whom it names, and the images closest to it with its map through all heads."""
    named: dict[str, dict] = {}
    for kind, entries, value in (("heads", heads, "explained"), ("neurons", neurons, "weight")):
        for entry in entries:
            for text in entry["texts"]:
                about = named.setdefault(text["text"], {"text": text["text"], "heads": [], "neurons": []})
                about[kind].append({"name": entry["name"], value: text[value]})
    places = {text: place for place, text in enumerate(pool.texts)}
    chosen = [places[text] for text in named]
    wanted, base, best = features[chosen], features.mean(0), TopK(n_images)

    def closest(batch):
        unit = torch.nn.functional.normalize(batch.representation, dim=-1)
        return unit @ wanted.to(unit).T, batch.numbers

    feed(clip, images, [(best, closest)])
    unique, place = best.images.T.unique(return_inverse=True)  # [T, k]
    maps = {}
    for start in range(0, len(unique), BATCH):
        numbers = unique[start : start + BATCH].tolist()
        effects = direct_effects(clip, take(images, numbers)[0])
        every = token_maps(effects, wanted - base) / effects.total().norm(dim=-1)[:, None, None, None]
        for row, number in enumerate(numbers):
            for text in (best.images == number).any(0).nonzero()[:, 0].tolist():
                maps[text, number] = every[row, text].cpu()
    for text, about in enumerate(named.values()):
        numbers = best.images[:, text]
        about["kind"] = pool.kinds[chosen[text]]
        about["images"] = _shown(numbers, [maps[text, number] for number in numbers.tolist()])
    return list(named.values())


def _true(entry: dict, specs: list) -> dict:
    """On the sandbox, how many of a text's images show what it states, and the share of all images that do."""
    fact = fact_of_prompt().get(entry["text"].casefold())
    if fact is None:
        return {}
    holds = truth([Caption(entry["text"], (fact,))], specs)[0]
    return {"true": sum(bool(holds[image["number"]]) for image in entry["images"]), "base": float(holds.mean())}


def _shown(numbers: Tensor, maps) -> list[dict]:
    return [{"number": number, "map": rounded(each)} for number, each in zip(numbers.tolist(), maps)]


def _words(spec: Spec) -> str:
    return f"{spec.count} {spec.object}, {spec.colour}, {spec.texture}; {spec.scene}, {spec.weather}; {spec.style}"
