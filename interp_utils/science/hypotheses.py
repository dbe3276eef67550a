"""Hypotheses about heads and neurons, tested on pairs of images that differ in one thing (thesis, chapter 5).

The thesis asks for "iterative hypothesis generation [...] together with testing and refinement". A proposal is a text that an
earlier method found for a unit. Its test: does the unit answer more to images of which the text is true than to their twins of
which it is not, in a unit that can be compared from one text to the next?
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..heads.direct import head_basis
from ..heads.textspan import Head
from ..hooks import compute_dtype, forward_hooks, visit_neurons
from ..hooks.base import reading
from ..models import Clip
from ..moments import GroupMeans
from ..neurons.rank_one import batch_effects, share_run
from ..neurons.second_order import SecondOrder
from ..statistics import holm, sign_flip_p
from ..stream import Batch, feed
from .twins import Draw, RetrievedPairs


@dataclass(frozen=True)
class Units:
    """Some units of one kind: how they answer to a batch, [B, U, W], and along which direction [U, W] to look for a text."""

    clip: Clip
    names: list[str]
    vectors: Callable[[Batch], Tensor]
    directions: Callable[[Tensor], Tensor]  # of a text's vector [E]
    layer: int | None = None  # of neurons, which answer by their effects
    active: int | None = None  # the layer of neurons that answer by their activations


def head_units(clip: Clip, heads: Sequence[Head]) -> Units:
    """Heads, which answer by their direct effect, along the part of a text's vector that the head can write at all."""
    layers, numbers = torch.tensor(list(heads)).T
    basis = head_basis(clip)  # None where a head can write anything
    onto = None if basis is None else torch.linalg.qr(basis[layers, numbers].mT).Q  # [U, E, d+1]

    def directions(text: Tensor) -> Tensor:
        if onto is None:
            return torch.nn.functional.normalize(text, dim=-1).expand(len(layers), -1)
        inside = torch.einsum("uEd,ud->uE", onto, torch.einsum("uEd,E->ud", onto, text.to(onto)))  # in one, E x E would be built
        return torch.nn.functional.normalize(inside, dim=-1)

    return Units(clip, [f"L{layer}H{head}" for layer, head in heads], lambda batch: batch.heads[:, layers, numbers], directions)


def neuron_units(order: SecondOrder, neurons: Sequence[int]) -> Units:
    """Neurons of a fitted layer, which answer by x_n, the coefficient of their second-order effect: a number, whatever the text."""
    fitted, neurons = order.rank_one, list(neurons)

    def vectors(batch: Batch) -> Tensor:
        return batch_effects(batch, [order], 0).less(fitted.centre).along(fitted.lines)[:, neurons, None]

    ones = torch.ones(len(neurons), 1)
    names = [f"L{order.layer}N{neuron}" for neuron in neurons]
    return Units(order.clip, names, vectors, lambda text: ones.to(order.values), order.layer)


def activation_units(order: SecondOrder, neurons: Sequence[int]) -> Units:
    """The same neurons by another number: their activation, averaged over all patches, before any attention reads it."""
    clip, neurons = order.clip, list(neurons)

    def vectors(batch: Batch) -> Tensor:
        def run() -> Tensor:
            found = []
            visit_neurons(clip, clip.pixels(batch.pixels), lambda _, p: found.append(p), [order.layer])
            return found[0]

        return batch.once(("activations", order.layer), run)[:, clip.n_prefix :, neurons].mean(1)[..., None]

    names = [f"L{order.layer}N{neuron}" for neuron in neurons]
    return Units(clip, names, vectors, lambda text: torch.ones(len(neurons), 1), active=order.layer)


def together(units: Sequence[Units]) -> Callable[[Batch], tuple[Tensor, ...]]:
    """A view for `stream.collect`: the answers of several kinds of units to a batch, [B, U, W] each, from one run of the model."""
    layers, active = ({getattr(each, name) for each in units} - {None} for name in ("layer", "active"))

    def keep(batch: Batch, layer: int):
        return lambda p: batch.once(("activations", layer), lambda: p.to(compute_dtype(batch.model)))

    def view(batch: Batch) -> tuple[Tensor, ...]:
        if len(units) > 1 and (layers or active):
            blocks = batch.model.tower.blocks
            with forward_hooks(*reading([((blocks[layer].last, True), keep(batch, layer)) for layer in active])):
                share_run(batch, layers)
        return tuple(each.vectors(batch) for each in units)

    return view


def spread(units: Units, images, **options) -> Tensor:
    """How much each unit's answer varies over images: the square root of its variance, all dimensions together, [U]."""
    sums = GroupMeans(1)
    feed(
        units.clip,
        images,
        [(sums, lambda batch: (units.vectors(batch), torch.zeros(len(batch.pixels), dtype=torch.long)))],
        **options,
    )
    return sums.variance.sqrt().float()


@torch.no_grad()
def measure(units: Sequence[Units], draw: Draw, texts: dict[str, Tensor], n: int = 20, seed: int = 0) -> dict[str, Tensor]:
    """Answers of all units to pairs of images, for each text: [2, n, U], the images of which it is true first.

    texts: the vector [E] of each. Pairs depend on the text alone, so every unit is measured on every text: controls cost nothing.
    No image of `retrieved_pairs` is run twice, however many texts ask for it.
    Raises ValueError where there is no unit or no text.
    """
    if not units or not texts:
        raise ValueError(f"need units and texts to measure, got {len(units)} kinds of units and {len(texts)} texts")
    found, names = {}, list(texts)
    if isinstance(draw, RetrievedPairs):
        distinct, which = torch.stack([draw.numbers(text, n, seed) for text in names]).unique(return_inverse=True)
        runs = [_vectors(units, draw.pixels(few)) for few in distinct.split(64)]
        vectors = [torch.cat(parts) for parts in zip(*runs)]
        return {text: _along(units, [v[rows] for v in vectors], texts[text]) for text, rows in zip(names, which)}
    portion = max(1, 64 // n)  # texts that share a run of the model
    for start in range(0, len(names), portion):
        few = names[start : start + portion]
        vectors = _vectors(units, torch.cat([torch.cat(draw(text, n, seed)) for text in few]))
        rows = torch.arange(2 * n * len(few)).view(-1, 2, n)
        found |= {text: _along(units, [v[rows[k]] for v in vectors], texts[text]) for k, text in enumerate(few)}
    return found


def _vectors(units: Sequence[Units], pixels: Tensor) -> tuple[Tensor, ...]:
    """Answers of each kind of units to images, [B, U, W], from one run of the model."""
    clip = units[0].clip
    return together(units)(Batch(clip, pixels.to(clip.device), None, torch.arange(len(pixels)), "centered"))


def _along(units: Sequence[Units], vectors: Sequence[Tensor], text: Tensor) -> Tensor:
    """Answers [2, n, U, W] of each kind of units, along a text's vector [E]: [2, n, all units]."""
    along = [torch.einsum("pnuw,uw->pnu", v, each.directions(text)) for v, each in zip(vectors, units)]
    return torch.cat(along, 2).cpu()


def effects(measured: dict[str, Tensor], spread: Tensor) -> Tensor:
    """Mean difference within the pairs of each text, in units of each unit's `spread` [U]: [U, T].

    Raises ValueError where a unit does not vary, or nothing was measured.
    """
    if not measured or not (spread > 0).all():
        still = (~(spread > 0)).nonzero().flatten().tolist()
        raise ValueError(f"need at least one text and units that vary; {len(measured)} texts, units that do not vary: {still}")
    return torch.stack([(on - off).mean(0) / spread for on, off in measured.values()], 1)


@dataclass(frozen=True)
class Trial:
    """One unit on the pairs of one text."""

    unit: int
    text: str
    effect: float  # mean difference of a pair, in the unit's spread over all kinds of images
    interval: tuple[float, float]  # of the effect, bootstrap over pairs, 95 percent, for this test alone
    cohens_d: float  # mean difference of a pair, in the standard deviation of the differences
    auc: float  # chance that the answer to a true image is the higher of two, pairs aside
    p: float  # one-sided, by sign flips: could the two images of a pair be swapped? Corrected for all tests made together
    accepted: bool


@dataclass(frozen=True)
class Finding:
    """A proposal and what became of it."""

    whole: Trial
    parts: list[Trial]  # empty where the text names one thing
    verdict: str  # accepted, refined or rejected
    claims: list[str]  # texts that stand


def paired_statistics(on: Tensor, off: Tensor, spread: float, seed: int = 0, resamples: int = 1000) -> dict:
    """Effect, its interval, Cohen's d, AUC and one-sided p of answers [n] to the images of n pairs (see `Trial`, `sign_flip_p`).

    Where all pairs differ by the same, d is infinite (0 where none differ at all).
    Raises ValueError for fewer than 3 or more than 40 pairs, or a spread that is not above 0.
    """
    if len(on) != len(off):
        raise ValueError(f"need two answers for each pair, got {len(on)} and {len(off)}")
    return _statistics(on[None], off[None], torch.tensor([spread], dtype=torch.double), seed, resamples)[0]


def _statistics(on: Tensor, off: Tensor, spreads: Tensor, seed: int = 0, resamples: int = 1000) -> list[dict]:
    """`paired_statistics` of K tests at once: answers [K, n], spreads [K]. All intervals are of the same draws of pairs."""
    from scipy.stats import bootstrap, rankdata  # a second of every start, which few need

    if still := [spread for spread in spreads.tolist() if not spread > 0]:
        raise ValueError(f"a unit with a spread of {still[0]} does not vary; leave it out")
    on, off, spreads, n = *(each.double().numpy() for each in (on, off, spreads)), on.shape[1]
    change, ranks = on - off, rankdata(np.concatenate([on, off], 1), axis=1)[:, :n]
    p, portion = [sign_flip_p(each) for each in change], max(1, 2**22 // change.size)  # draws at a time
    draws = {"n_resamples": resamples, "batch": portion, "rng": np.random.default_rng(seed)}
    ends = bootstrap((change,), np.mean, axis=1, method="percentile", **draws).confidence_interval
    mean, deviation = change.mean(1), change.std(1, ddof=1)
    varies, signed = deviation > 1e-12 * np.abs(mean), np.where(mean == 0, 0.0, np.copysign(np.inf, mean))
    columns = {
        "effect": mean / spreads,
        "interval": zip(*(end / spreads for end in ends)),
        "cohens_d": np.divide(mean, deviation, out=signed, where=varies),
        "auc": (ranks.sum(1) - n * (n + 1) / 2) / n**2,  # Mann and Whitney's U
        "p": p,
    }
    rows = [dict(zip(columns, row)) for row in zip(*columns.values())]
    return [{k: tuple(map(float, v)) if k == "interval" else float(v) for k, v in row.items()} for row in rows]


def investigate(
    measured: dict[str, Tensor],
    proposals: dict[int, Sequence[str]],
    spread: Tensor,
    bars: Tensor,
    parts: Callable[[str], Sequence[str]],
    level: float = 0.05,
) -> list[Finding]:
    """Test each unit's proposals, and refine those that name several things to the parts that carry the answer.

    proposals: texts by unit. spread, bars: [U]; a text passes where the effect reaches the unit's bar and the corrected p is below
    `level`; a text that names k things must reach k bars, for it changes k things. parts: the texts of the single things that a
    text names. All must be in `measured`. Where parts pass, they are the claim ("refined", or "accepted" if all pass); where none
    does but the whole, the whole is, a conjunction; else the proposal is rejected.
    Raises KeyError for a text that was not measured, ValueError where so few pairs cannot pass so many tests.
    """
    wanted = {}
    for unit, texts in proposals.items():
        for text in texts:
            pieces = list(parts(text))
            wanted[unit, text] = pieces if len(pieces) > 1 else []
    pairs = list(dict.fromkeys(pair for (unit, text), pieces in wanted.items() for pair in ((unit, t) for t in (text, *pieces))))
    missing = [text for _, text in pairs if text not in measured]
    if missing:
        raise KeyError(f"no measurement for {missing[0]!r}; measure the proposals and their parts first")
    few = min((measured[text].shape[1] for _, text in pairs), default=0)
    if len(pairs) >= level * 2**few:
        least = math.floor(math.log2(len(pairs) / level)) + 1
        raise ValueError(f"with {few} pairs of images none of {len(pairs)} tests can pass {level:g}: measure at least {least}")
    found, by_size = {}, {}
    for unit, text in pairs:
        by_size.setdefault(measured[text].shape[1], []).append((unit, text))
    for alike in by_size.values():  # numbers of pairs of images
        answers = torch.stack([measured[text][:, :, unit] for unit, text in alike], 1)
        found |= zip(alike, _statistics(*answers, spread[[unit for unit, _ in alike]]))
    tests = {}
    for pair, p in zip(pairs, holm([found[pair]["p"] for pair in pairs])):
        numbers = found[pair]
        passed = p < level and numbers["effect"] >= bars[pair[0]].item() * max(1, len(wanted.get(pair, [])))
        tests[pair] = Trial(*pair, **{**numbers, "p": p}, accepted=bool(passed))
    return [_finding(tests[unit, text], [tests[unit, piece] for piece in pieces]) for (unit, text), pieces in wanted.items()]


def _finding(whole: Trial, parts: list[Trial]) -> Finding:
    passed = [part.text for part in parts if part.accepted]
    if passed:
        return Finding(whole, parts, "accepted" if len(passed) == len(parts) else "refined", passed)
    return Finding(whole, parts, "accepted" if whole.accepted else "rejected", [whole.text] if whole.accepted else [])
