"""What a head is about: the kind that its texts name, and, in the sandbox, the factor that moves it."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .. import sandbox
from ..checks import checked_count
from ..models import Clip
from ..moments import GroupMeans
from ..stream import feed
from .textspan import Head, TextSpan


def kind_shares(span: TextSpan, kinds: Sequence[str], size: int = 10) -> dict[str, float]:
    """Share of the head's variance that texts of each kind explain among its first `size` texts, largest first.

    kinds: of each text of the pool, see `texts.Pool`.
    """
    shares, size = {}, checked_count("size", size)
    for index, explained in zip(span.indices[:size], span.explained[:size].tolist()):
        shares[kinds[index]] = shares.get(kinds[index], 0.0) + explained
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def heads_about(
    spans: dict[Head, TextSpan], kinds: Sequence[str], wanted: Sequence[str], share: float = 0.5, size: int = 10
) -> list[Head]:
    """Heads that are about some kinds of text: of the variance that their first texts explain, `share` or more is theirs.

    This is our rule for what the thesis does by hand ("we manually annotated the role of each head", section 2.4). It looks
    at the texts alone, never at labels or test images.
    """
    chosen = []
    for head, span in spans.items():
        shares = kind_shares(span, kinds, size)
        if sum(shares.get(kind, 0.0) for kind in wanted) >= share * sum(shares.values()) > 0:
            chosen.append(head)
    return chosen


def factor_shares(clip: Clip, n_images: int = 4000, seed: int = 0, layers: list[int] | None = None, **options) -> dict[str, Tensor]:
    """Share of the variance of each head's output that each sandbox factor explains, on balanced images: [L, H] by factor.

    On the CPU. One-way analysis of variance over all dimensions of the output, corrected for chance. Factors are drawn
    independently, so the shares add up to at most 1, but for sampling error; the rest is interaction, jitter and noise. A factor
    that only some images show counts as a share of the variance among those: colour in photos, place and size of a single object.
    """
    layers = list(range(clip.n_layers)) if layers is None else layers
    specs = [sandbox.balanced(10**9 + seed * 10**7 + k) for k in range(n_images)]
    images = sandbox.SandboxImages(specs, sandbox.factor_labels, preprocess=clip.preprocess)
    means = {factor: GroupMeans(len(values)) for factor, values in sandbox.FACTORS.items()}

    def view(k):
        return lambda batch: (batch.heads[:, layers], batch.targets[:, k])

    feed(clip, images, [(mean, view(k)) for k, mean in enumerate(means.values())], **options)
    return {factor: mean.explained_variance().float().cpu() for factor, mean in means.items()}


def agreement(named: Sequence[str], true: Sequence[str]) -> tuple[float, float]:
    """Share of heads whose name is true, and the share expected by chance: the same names dealt out at random."""
    if not len(named) == len(true) > 0:
        raise ValueError(f"need as many names as truths, at least one, got {len(named)} and {len(true)}")
    n = len(named)
    chance = sum(named.count(name) * true.count(name) for name in set(named)) / n**2
    return sum(a == b for a, b in zip(named, true)) / n, chance


class Rates(NamedTuple):
    """How many heads were named, and percent of names that are right: as given, dealt out at random, and one name for all."""

    heads: int
    right: float
    dealt: float
    one_name: float


def roles(shares: Tensor, blank: Tensor) -> tuple[Tensor, Tensor]:
    """The factor that moves each head most, [heads], and whether that is its role, bool [heads].

    shares: [factors, heads], see `factor_shares`; blank: [factors], the largest share of each in any head of an untrained copy. A
    head has a role if its largest share is at least twice the next one, and larger than blank.
    """
    top, which = shares.topk(2, 0)
    return which[0], (top[0] >= 2 * top[1]) & (top[0] > blank[which[0]])


def naming_table(
    named: Sequence[str], shares: Tensor, blank: Tensor, n_early: int, factors: Sequence[str] = tuple(sandbox.FACTORS)
) -> dict[str, Rates]:
    """How often the names of heads are the factor that moves them most: of late heads with a role, all late, earlier with a role.

    named: a name for each head; shares, blank: see `roles`; n_early: how many heads, the first ones, are early; factors: names of
    the rows of shares. Kinds of which there is no head are left out. Raises ValueError for another number of names than of heads.
    """
    if len(named) != shares.shape[1]:
        raise ValueError(f"need a name for each of {shares.shape[1]} heads, got {len(named)}")
    which, has_role = roles(shares, blank)
    late, found = torch.arange(len(named)) >= n_early, {}
    groups = {"late, with a role": has_role & late, "late, all": late, "earlier, with a role": has_role & ~late}
    for group, chosen in groups.items():
        if heads := chosen.nonzero().flatten().tolist():
            names, true = [named[k] for k in heads], [factors[which[k]] for k in heads]
            right, dealt = agreement(names, true)
            found[group] = Rates(len(heads), 100 * right, 100 * dealt, 100 * max(map(true.count, true)) / len(true))
    return found


class TopHits(NamedTuple):
    """Whether the top images of a head show what its first text says."""

    factor: str  # that the text is about
    shown: list[bool]  # of each top image
    base: float  # share of all images that show it


def top_hits(spans: dict[Head, TextSpan], tops: dict[Head, Tensor], specs: Sequence[sandbox.Spec]) -> dict[Head, TopHits]:
    """For each head, whether sandbox images that score highest for its first text show it.

    tops: of each head, the numbers of its top images [K, texts], see `top_images`; specs: of all images. The texts are prompts of
    the sandbox. Raises KeyError for another text.
    """
    fact_of = sandbox.fact_of_prompt()
    shown, found = [set(sandbox.facts_of(spec)) for spec in specs], {}
    for head, span in spans.items():
        fact = fact_of[span.texts[0].casefold()]
        hits = [fact in shown[k] for k in tops[head][:, 0].tolist()]
        found[head] = TopHits(fact[0], hits, sum(fact in facts for facts in shown) / len(shown))
    return found
