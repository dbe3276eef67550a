"""Which facts drive a neuron, and whether its texts name them: polysemy measured against the sandbox's truth."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..checks import checked_count
from ..moments import Rows
from ..sandbox import FACTS, SandboxImages, Spec, balanced, fact_of_prompt, factor_labels, facts_of
from ..sandbox.world import CATEGORY_OF, FAMILY_OF
from ..statistics import interval
from ..stream import feed
from .rank_one import batch_effects
from .second_order import SecondOrder
from .sparse import SparseTexts

TOP, LIFT, LEVEL = 100, 2.0, 0.01  # the images looked at, how much more frequent a fact is there, and how often by chance


@dataclass(frozen=True)
class Drives:
    """What the images with a neuron's largest effects have in common."""

    lift: Tensor  # [M, F], how many times more frequent each fact is among them than among all images
    driven: Tensor  # bool [M, F], where that is no accident

    def of(self, neuron: int) -> list[tuple[str, object, float]]:
        """(factor, value, lift) of the facts that drive a neuron, the strongest first."""
        facts = [(*FACTS[k], self.lift[neuron, k].item()) for k in self.driven[neuron].nonzero()[:, 0].tolist()]
        return sorted(facts, key=lambda fact: -fact[2])


def drives(order: SecondOrder, n_images: int = 4000, **options) -> Drives:
    """Facts that are over-represented among the 100 balanced sandbox images with the largest coefficient x of each neuron.

    A fact drives a neuron if it is at least twice as frequent there as in all images, and that often by chance (binomial tail)
    at most once in a hundred, for all neurons and facts together (Bonferroni). Facts: `sandbox.FACTS`, categories and families
    included; a kind of object is on one image of 144, so take thousands. order: fitted; options: those of `feed`.
    """
    specs = [balanced(10**9 + k) for k in range(n_images)]
    fitted, rows = order.rank_one, Rows()

    def along(batch):
        return batch_effects(batch, [order], 0).less(fitted.centre).along(fitted.lines), batch.numbers

    feed(order.clip, SandboxImages(specs, factor_labels, preprocess=order.clip.preprocess), [(rows, along)], **options)
    holds = torch.zeros(n_images, len(FACTS))
    for row, spec in zip(holds, specs):
        row[[FACTS.index(fact) for fact in facts_of(spec)]] = 1
    best = rows.rows.topk(min(TOP, n_images), dim=0).indices  # [TOP, M]
    count, rate = holds[best].sum(0), holds.mean(0)
    from scipy.stats import binom  # a second of every start, which few need

    chance = torch.from_numpy(binom.sf(count.numpy() - 1, len(best), rate.numpy()))
    times = count / len(best) / torch.where(rate > 0, rate, 1)  # of what no image shows there is none anywhere
    return Drives(times, (times >= LIFT) & (chance <= LEVEL / times.numel()))


def with_hypernyms(drives: Drives) -> Drives:
    """The same, but what a driving kind of object belongs to drives as well: a dog makes "land animal" and "animal" right."""
    driven = drives.driven.clone()
    for k, (factor, value) in enumerate(FACTS):
        if factor == "object":
            category = CATEGORY_OF[value]
            for fact in (("category", category), ("family", FAMILY_OF.get(category))):
                if fact in FACTS:
                    driven[:, FACTS.index(fact)] |= drives.driven[:, k]
    return Drives(drives.lift, driven)


@dataclass(frozen=True)
class NamingScore:
    """How often the texts of neurons name what drives them, as shares of 1, beside texts dealt out at random."""

    precision: float  # share of the named facts that drive the neuron
    precision_chance: float
    recall: float  # share of the driving facts that are named
    recall_chance: float


def naming_score(drives: Drives, named: Tensor) -> NamingScore:
    """Compare the facts that texts name, bool [M, F], with those that drive the neurons. Chance: the texts of any neuron.

    Where nothing is named, or nothing drives, the share is 0.
    """
    named, driven = named.double(), drives.driven.double()
    hits, dealt = (named * driven).sum(), (named.mean(0) * driven.sum(0)).sum()
    n_named, n_driven = named.sum().clamp(min=1), driven.sum().clamp(min=1)
    return NamingScore(*(share.item() for share in (hits / n_named, dealt / n_named, hits / n_driven, dealt / n_driven)))


def named_facts(texts: SparseTexts, k: int = 4) -> Tensor:
    """Facts that each neuron's k texts of largest positive weight name, bool [n, F]. The pool: prompts of the sandbox's facts."""
    number_of = {fact: number for number, fact in enumerate(FACTS)}
    numbers = [number_of.get(fact_of_prompt().get(text.casefold()), -1) for text in texts.texts]
    named, k = torch.zeros(len(texts.indices), len(FACTS), dtype=torch.bool), checked_count("k", k)
    for row, indices, weights in zip(named, texts.indices, texts.weights):
        best = weights.argsort(descending=True)[:k]
        facts = [numbers[indices[j]] for j in best.tolist() if weights[j] > 0]
        row[[fact for fact in facts if fact >= 0]] = True
    return named


def naming_interval(drives: Drives, named: Tensor, resamples: int = 1000) -> tuple[float, float]:
    """95 percent interval of the precision of `naming_score`, by bootstrap over neurons."""
    right, count = (named & drives.driven).sum(1).numpy(), named.sum(1).numpy()
    low, high = interval(lambda rows: right[rows].sum() / max(count[rows].sum(), 1), len(named), resamples)
    return float(low), float(high)


def shares_true(texts: Sequence[Sequence[str]], specs: Sequence[Spec]) -> tuple[Tensor, Tensor]:
    """For each sandbox image, the share of its own texts that are true of it, and of all images on average, [K] each.

    texts: of each image some prompts of the sandbox's facts; without any, both are 0. Raises ValueError for another number of
    lists than of images, and for a text that is no prompt.
    """
    if len(texts) != len(specs):
        raise ValueError(f"need a list of texts for each image, got {len(texts)} lists and {len(specs)} images")
    fact_of = fact_of_prompt()
    if strange := [text for row in texts for text in row if text.casefold() not in fact_of]:
        raise ValueError(f"{strange[0]!r} is no prompt of the sandbox; see sandbox.prompts")
    number_of = {fact: number for number, fact in enumerate(FACTS)}
    said, holds = torch.zeros(2, len(specs), len(FACTS))
    for k, (row, spec) in enumerate(zip(texts, specs)):
        for text in row:
            said[k, number_of[fact_of[text.casefold()]]] += 1 / len(row)
        holds[k, [number_of[fact] for fact in facts_of(spec) if fact in number_of]] = 1
    hits = said @ holds.T
    return hits.diagonal(), hits.mean(1)
