"""Removing spurious cues by ablating the heads that write them (thesis, tables 2.3 and A.7 to A.10)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..checks import checked_count
from ..datasets import GroupTask
from ..models import Clip
from ..texts import Pool
from .ablation import Accuracy, accuracy_under
from .naming import heads_about
from .parts import Ablation, ablate_attention, ablate_heads, ablate_mlps
from .textspan import Head, head_moments, textspan

LAST_LAYERS, TRIALS = 4, 5  # heads are drawn from so many layers, so many times

# The heads that the thesis's author chose by hand from their texts, for Waterbirds: geolocation and image location.
AUTHOR_HEADS: dict[str, list[Head]] = {
    "ViT-B-16/laion2b_s34b_b88k": [(11, 3), (10, 11), (10, 10), (9, 8), (9, 6), (11, 6), (11, 0)],
    "ViT-L-14/laion2b_s32b_b82k": [
        (21, 1), (22, 12), (22, 13), (21, 11), (21, 14), (23, 6), (21, 3), (21, 6), (21, 8), (21, 13), (22, 2), (22, 15),
        (23, 1), (23, 3), (23, 5),
    ],
    "ViT-H-14/laion2b_s32b_b79k": [(31, 12), (30, 11), (29, 4), (31, 8), (30, 15), (30, 12), (30, 6), (29, 14), (29, 8)],
}  # fmt: skip


class CueRow(NamedTuple):
    """A row of table 2.3, in percent: what a model's answers lose or gain when heads are ablated."""

    heads: int  # how many
    worst: list[float]  # group: intact, the best of five draws of as many random heads, without the heads
    overall: list[float]  # intact, without
    before: list[float]  # each group, intact
    after: list[float]


class Agreement(NamedTuple):
    """How a choice of heads compares with another one, of the same candidates."""

    both: list[Head]
    only_ours: list[Head]
    only_authors: list[Head]
    expected: float  # how many would be in both, were ours drawn at random among the candidates
    p: float  # how often a random choice of that size has at least so many in both


def compare_with_author(clip: Clip, heads: Sequence[Head]) -> Agreement:
    """Our choice of heads about the scene beside the one that the thesis's author made by hand, `AUTHOR_HEADS`.

    Both are of the last four layers. Raises ValueError for a model without such a list, or for a head of another layer.
    """
    if clip.name not in AUTHOR_HEADS:
        raise ValueError(f"the author chose no heads of {clip.name}; of these: {', '.join(AUTHOR_HEADS)}")
    late = set(_late_heads(clip))
    ours, theirs = set(heads), set(AUTHOR_HEADS[clip.name])
    if strange := sorted((ours | theirs) - late):
        raise ValueError(f"not heads of the last {LAST_LAYERS} layers of {clip.name}: {strange[:5]}")
    both, expected = sorted(ours & theirs), len(ours) * len(theirs) / len(late)
    from scipy.stats import hypergeom  # a second of every start, which few need

    p = float(hypergeom.sf(len(both) - 1, len(late), len(theirs), len(ours)))
    return Agreement(both, sorted(ours - theirs), sorted(theirs - ours), expected, p)


def _late_heads(clip: Clip) -> list[Head]:
    return [(layer, head) for layer in range(max(clip.n_layers - LAST_LAYERS, 0), clip.n_layers) for head in range(clip.n_heads)]


def late_heads_about(
    clip: Clip, images: Sequence, pool: Pool, wanted: Sequence[str], ln: str | None = None, kept: dict | None = None, **rule
) -> list[Head]:
    """Heads of the last four layers that are about some kinds of text: `textspan` on the images, then `heads_about`.

    pool: texts and their kinds; kept: a `stream.memory` of the images; rule: `share` and `size` of `heads_about`. Raises what
    those do.
    """
    vectors, layers = clip.encode_text(pool.texts), sorted({layer for layer, _ in _late_heads(clip)})
    moments = head_moments(clip, images, layers, ln=ln, kept=kept)
    spans = {head: textspan(each, vectors, pool.texts, rule.get("size", 10)) for head, each in moments.items()}
    return heads_about(spans, pool.kinds, wanted, **rule)


def draw_heads(clip: Clip, count: int, draws: int, seed: int = 0) -> list[list[Head]]:
    """So many draws of so many heads of the last four layers, each without repetition: the control of table 2.3.

    Raises ValueError where there are fewer heads than `count`.
    """
    late = _late_heads(clip)
    if checked_count("random_heads", count) > len(late):
        raise ValueError(f"cannot draw {count} random heads from the {len(late)} of the last {clip.n_layers - late[0][0]} layers")
    generator = torch.Generator().manual_seed(seed)
    return [[late[k] for k in torch.randperm(len(late), generator=generator)[:count]] for _ in range(draws)]


def remove_cue(
    clip: Clip,
    images: Sequence,
    classifier: Tensor,
    heads: Sequence[Head],
    n_groups: int,
    means: Sequence | str | None = None,
    random_heads: int = 10,
    **options,
) -> dict[str, Accuracy]:
    """Accuracy by group without the heads that write a spurious cue, beside the intact model and random heads.

    images: items (pixels, (label, group)); classifier: [C, E]; heads: (layer, head) to ablate. "heads": those heads alone;
    "full": also all MLPs, the embedding and the attention layers before the last four, as the published numbers.
    "random" and "random full": as many as `random_heads` heads of those last layers, the best worst group of five draws
    (thesis: 10 heads). means and options: as in `accuracy_under`.
    Raises ValueError where no head was chosen, or where there are fewer heads than `random_heads`.
    """
    if len(heads) == 0:
        raise ValueError("no head to ablate: no head's texts met the rule; lower the share that `heads_about` asks for")
    first, drawn = _late_heads(clip)[0][0], draw_heads(clip, random_heads, TRIALS)
    rest = ablate_mlps(clip) | ablate_attention(clip, range(first))
    ablations = {"base": Ablation(), "heads": ablate_heads(heads), "full": ablate_heads(heads) | rest}
    for trial, chosen in enumerate(drawn):
        ablations[f"random {trial}"] = ablate_heads(chosen)
        ablations[f"random full {trial}"] = ablate_heads(chosen) | rest
    scores = accuracy_under(clip, images, classifier, ablations, means=means, n_groups=n_groups, **options)
    for kind in ("random", "random full"):
        scores[kind] = max((scores.pop(f"{kind} {trial}") for trial in range(TRIALS)), key=lambda score: score.worst_group)
    return scores


def cue_row(clip: Clip, task: GroupTask, heads: Sequence[Head], means: Sequence, ln: str | None = None) -> CueRow:
    """A row of table 2.3: `remove_cue` on a task as `datasets.load_groups` gives it; arguments and errors are those."""
    classifier, n = clip.encode_text(task.classes, task.templates), len(task.groups)
    found = remove_cue(clip, task.images, classifier, heads, n, means=means, random_heads=len(heads), ln=ln)
    worst = [100 * found[kind].worst_group for kind in ("base", "random", "heads")]
    overall = [100 * found[kind].overall for kind in ("base", "heads")]
    return CueRow(len(heads), worst, overall, *([100 * share for share in found[kind].groups] for kind in ("base", "heads")))
