"""What a head is about: the kind that its texts name, and, in the sandbox, the factor that moves it."""

from collections.abc import Sequence

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


def factor_shares(
    clip: Clip, n_images: int = 4000, seed: int = 0, layers: list[int] | None = None, ln: str = "centered", world=sandbox, **options
) -> dict[str, Tensor]:
    """Share of the variance of each head's output that each sandbox factor explains, on balanced images: [L, H] by factor.

    One-way analysis of variance over all dimensions of the output, corrected for chance. Factors are drawn independently,
    so the shares add up to at most 1, but for sampling error; the rest is interaction, jitter and noise. A factor that only some
    images show counts as a share of the variance among those: colour in photos, place and size of a single object.
    world: the `sandbox`, or the smaller `sandbox.first`.
    """
    layers = list(range(clip.n_layers)) if layers is None else layers
    specs = [world.balanced(10**9 + seed * 10**7 + k) for k in range(n_images)]
    images = world.SandboxImages(specs, world.factor_labels, preprocess=clip.preprocess)
    means = {factor: GroupMeans(len(values)) for factor, values in world.FACTORS.items()}

    def view(k):
        return lambda batch: (batch.heads[:, layers], batch.targets[:, k])

    feed(clip, images, [(mean, view(k)) for k, mean in enumerate(means.values())], ln=ln, **options)
    return {factor: mean.explained_variance().float() for factor, mean in means.items()}


def agreement(named: Sequence[str], true: Sequence[str]) -> tuple[float, float]:
    """Share of heads whose name is true, and the share expected by chance: the same names dealt out at random."""
    if not len(named) == len(true) > 0:
        raise ValueError(f"need as many names as truths, at least one, got {len(named)} and {len(true)}")
    n = len(named)
    chance = sum(named.count(name) * true.count(name) for name in set(named)) / n**2
    return sum(a == b for a, b in zip(named, true)) / n, chance
