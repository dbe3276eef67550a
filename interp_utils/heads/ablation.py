"""Mean-ablation (thesis, section 2.3): what is lost when parts of the model say the same about every image."""

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..accumulating import Several
from ..hooks import attention_weights, class_written, edited_blocks, final_norm, head_outputs, run_from, streams_before
from ..models import Clip
from ..moments import GroupMeans, Moments, Rows
from ..stream import Asked, Batch, feed, in_pass, memory
from .parts import Ablation


@dataclass(frozen=True)
class Accuracy:
    """Accuracy over all images and within groups, each a share of 1; `groups` has one entry where there are no groups."""

    overall: float
    groups: list[float]

    @property
    def worst_group(self) -> float:
        """Accuracy of the group that fares worst (Sagawa et al. 2020); groups without an image do not count."""
        return min(share for share in self.groups if share == share)


def accuracy_under(
    clip: Clip,
    images: Sequence,
    classifier: Tensor,
    ablations: dict[str, Ablation],
    mode: str = "direct",
    means: Sequence | str | None = None,
    n_groups: int = 1,
    ln: str | None = None,
    **options,
) -> dict[str, Accuracy]:
    """Zero-shot accuracy under each of many ablations, from one pass for the means and one for all the accuracies.

    images: items (pixels, label) or (pixels, (label, group)); classifier: [C, E].
    mode: "direct" replaces stored direct effects, divided by the representation's length (thesis, tables 2.1 and A.1):
    nothing is re-run, later layers still see the original stream. "forward" replaces the outputs of the parts, at every
    token, and runs the rest of the model again. The two answer different questions; do not mix them in one table.
    means: the images whose mean is put in place, the same images by default, or "zero". options: those of `feed`, for both
    passes; but `numbers` choose among `images`, so of other `means` all are taken, and `kept` is a memory of what is averaged.
    Raises ValueError for another mode, a classifier of another width, labels beyond it, and parts that the model does not have
    or that overlap.
    """
    result, (first, right) = GroupMeans(n_groups), _judge(clip, classifier, ablations, mode, means, ln)
    kept = _average(clip, images, first, means, ln, options)
    statistics = [(result, lambda batch: (right(batch).float(), labels_and_groups(batch)[1]))]
    feed(clip, images, statistics, ln=ln, **in_pass(2, options) | {"kept": kept})
    groups, overall = result.mean.cpu(), result.overall.cpu()
    return {name: Accuracy(overall[k].item(), groups[:, k].tolist()) for k, name in enumerate(ablations)}


class Answers(NamedTuple):
    """Which of K images are classified rightly under each ablation, bool [K] each, and the images' groups, [K]."""

    right: dict[str, Tensor]
    groups: Tensor


def answers_under(
    clip: Clip, images: Sequence, classifier: Tensor, ablations: dict, mode="direct", means=None, ln: str | None = None, **options
) -> Answers:
    """What `accuracy_under` averages, image by image, for intervals and paired differences; arguments and errors are the same."""
    first, second = ask_answers(clip, classifier, ablations, mode, means, ln)
    kept = _average(clip, images, first, means, ln, options)
    feed(clip, images, second.statistics, ln=ln, **in_pass(2, options) | {"kept": kept})
    return second.found()


def ask_answers(
    clip: Clip, classifier: Tensor, ablations: dict, mode: str = "direct", means=None, ln: str | None = None
) -> tuple[list, Asked]:
    """What `answers_under` asks of a pass for the means, statistics alone, and of the one for the answers."""
    rows, (first, right) = Rows(), _judge(clip, classifier, ablations, mode, means, ln)

    def view(batch: Batch):
        answers = right(batch).int()  # half the bytes, for this is kept of every image
        return torch.cat([answers, labels_and_groups(batch)[1][:, None].to(answers)], 1), batch.numbers

    def found() -> Answers:
        *columns, groups = rows.rows.T
        return Answers({name: column.bool() for name, column in zip(ablations, columns)}, groups.long())

    return first, Asked([(rows, view)], found)


def _judge(
    clip: Clip, classifier: Tensor, ablations: dict[str, Ablation], mode: str, means, ln: str | None
) -> tuple[list, Callable]:
    """Statistics for the means, and a function of a batch: is each image classified rightly under each ablation, 0 or 1, [B, K]."""
    for ablation in ablations.values():
        _check(clip, ablation)
    if mode not in ("direct", "forward"):
        raise ValueError(f"mode must be 'direct' or 'forward', got {mode!r}")
    classifier = clip.vectors(classifier, "a classifier")
    prepare = _direct if mode == "direct" else _forward
    first, scores = prepare(clip, list(ablations.values()), isinstance(means, str) and means == "zero")

    def right(batch: Batch) -> Tensor:
        labels = checked_labels(labels_and_groups(batch)[0], classifier)
        guesses = torch.stack([ablated @ classifier.to(ablated).T for ablated in scores(batch)]).argmax(-1)  # [K, B]
        return (guesses == labels.to(guesses.device)).T.long()

    return first, right


def _average(clip: Clip, images, first: list, means, ln: str | None, options: dict) -> dict | None:
    """The pass for the means, where one is needed; and what the next one may take from it."""
    own = means is None or means is images
    averaging = {name: value for name, value in in_pass(1, options).items() if own or name != "numbers"}
    kept = options.get("kept")
    if kept is None and own and options.get("save_to") is None:  # a run with a file takes the same memory for any set
        kept = memory(images)
    if first:
        feed(clip, images if own else means, first, ln=ln, **averaging | {"kept": kept})
    return kept if own else None


def labels_and_groups(batch: Batch) -> tuple[Tensor, Tensor]:
    """Of the images of a batch, [B] each; one group where the targets name none."""
    labels, groups = batch.targets if isinstance(batch.targets, list | tuple) else (batch.targets, None)
    if groups is None and labels is not None:
        groups = torch.zeros_like(labels)
    return labels, groups


def checked_labels(labels: Tensor, classifier: Tensor) -> Tensor:
    """The labels [B], on the classifier's device. Raises ValueError without any, or for one that is no row of it [C, E]."""
    if not isinstance(labels, Tensor):
        raise ValueError("the images have no labels, which accuracy needs; give a dataset of (pixels, label) pairs")
    if labels.min() < 0 or labels.max() >= len(classifier):
        wrong = labels.min() if labels.min() < 0 else labels.max()
        hint = "; images without class folders have no labels" if wrong < 0 else ""
        raise ValueError(f"an image has label {wrong.item()}, but the classifier has {len(classifier)} classes{hint}")
    return labels.to(classifier.device)


def _check(clip: Clip, ablation: Ablation) -> None:
    for layer, head in ablation.heads:
        if not (0 <= layer < clip.n_layers and 0 <= head < clip.n_heads):
            raise ValueError(f"no head L{layer}H{head}: the model has {clip.n_layers} layers of {clip.n_heads} heads")
    for layer in ablation.mlps | ablation.class_token:
        if not 0 <= layer < clip.n_layers:
            raise ValueError(f"no layer {layer}: the model has {clip.n_layers} layers")
    if ablation.class_token:
        final_norm(clip)  # which says so where there is no class token
    both = ablation.class_token & {layer for layer, _ in ablation.heads}
    if both:
        raise ValueError(f"heads of layer {min(both)} and its class token part overlap; ablate one of the two")


def _direct(clip: Clip, ablations: list[Ablation], zero: bool) -> tuple[list, Callable]:
    """Statistics for the means, and a function of a batch: the ablated representations, [K, B, E], from direct effects."""
    n_layers, n_heads = clip.n_layers, clip.n_heads
    mask = torch.zeros(len(ablations), 1 + 2 * n_layers + n_layers * n_heads)  # columns in the order of `parts`
    for row, ablation in zip(mask, ablations):
        row[0] = float(ablation.embedding)
        row[[1 + layer for layer in ablation.mlps]] = 1
        row[[1 + n_layers + layer for layer in ablation.class_token]] = 1
        row[[1 + 2 * n_layers + layer * n_heads + head for layer, head in ablation.heads]] = 1

    def parts(batch: Batch) -> Tensor:  # [B, P, E]
        effects = batch.effects
        own = effects.class_token() if clip.tower.final is not None else torch.zeros_like(effects.mlps())
        first = (effects.embedding() + effects.pool_mlp())[:, None]
        small = torch.cat([first, effects.mlps(), own], 1) / batch.length[:, None]
        return torch.cat([small, batch.heads.flatten(1, 2)], 1)

    mean = Moments()

    def scores(batch: Batch) -> Tensor:
        seen = parts(batch)
        change = -seen if zero else mean.mean.to(seen) - seen
        return batch.representation + torch.einsum("kp,bpE->kbE", mask.to(seen), change)

    return [] if zero else [(mean, parts)], scores


def _forward(clip: Clip, ablations: list[Ablation], zero: bool) -> tuple[list, Callable]:
    """Statistics for the means, and a function of a batch: the ablated, normalised representations, from new forward passes.

    The embedding of the class token is the same for all images: putting its mean in place changes nothing; that of all tokens is
    the image itself. What comes before an ablation's first layer is as in the intact model, and runs once for all.
    """
    if any(ablation.embedding for ablation in ablations) and (zero or clip.tower.final is None):
        what = "zero the embedding" if zero else f"ablate the embedding of all tokens, which {clip.name} reads out"
        raise ValueError(f"mode 'forward' cannot {what}: nothing would run; leave it out of the ablation")
    put = None if zero else _OutputMeans(clip, ablations)
    starts = [min(a.mlps | a.class_token | {layer for layer, _ in a.heads}, default=clip.n_layers) for a in ablations]

    def scores(batch: Batch) -> Tensor:
        streams, rows = streams_before(clip, batch.pixels, set(starts)), []
        for ablation, start in zip(ablations, starts):
            with _replaced(clip, ablation, put):
                rows.append(run_from(clip, start, streams[start], every_token=True))
        return torch.stack([row / row.norm(dim=-1, keepdim=True) for row in rows])

    return [] if zero else [(put, lambda batch: batch.pixels)], scores


def _written(clip: Clip, layer: int, inputs: Tensor, output: Tensor, heads: Sequence[int], own: bool) -> Tensor:
    """What some heads of a layer write to every token, [B, N, D]; or what the class token's own value adds to it."""
    if len(heads) == clip.n_heads:
        return output  # all that its attention writes
    weights = attention_weights(clip, layer)
    inputs = inputs.to(weights.b_o.dtype)
    if not own:
        return head_outputs(inputs, weights, list(heads)).sum(1)
    written = torch.zeros_like(inputs)
    rows, shares = weights.effective(inputs, inputs.new_ones(len(inputs), 1, 1), [0])
    written[:, 0] = class_written(inputs, weights, rows[:, 0], shares[:, 0])
    return written


class _OutputMeans(Several):
    """Mean over the images, token by token, of the outputs that ablations replace: a statistic that takes pixels."""

    def __init__(self, clip: Clip, ablations: list[Ablation]):
        self.clip = clip
        self.attention = sorted(
            {part for ablation in ablations for part in _attention_parts(ablation)},
        )
        self.mlps = sorted({layer for ablation in ablations for layer in ablation.mlps})
        super().__init__({part: Moments() for part in [*self.attention, *self.mlps]})

    def update(self, pixels: Tensor) -> None:
        def attention(layer):
            def record(inputs, output):
                for part in self.attention:
                    if part[0] == layer:
                        self.members[part].update(_written(self.clip, layer, inputs, output, *part[1:]))
                return output

            return record

        def mlp(layer):
            def record(output):
                self.members[layer].update(output)
                return output

            return record

        attention_edits = {layer: attention(layer) for layer, *_ in self.attention}
        with edited_blocks(self.clip, attention_edits, {layer: mlp(layer) for layer in self.mlps}):
            self.clip.encode_image(pixels)


def _attention_parts(ablation: Ablation) -> list[tuple[int, tuple, bool]]:
    """(layer, its ablated heads, False) and (layer, no heads, True) for the class token's attention to itself."""
    layers = sorted({layer for layer, _ in ablation.heads})
    parts = [(layer, tuple(sorted(head for at, head in ablation.heads if at == layer)), False) for layer in layers]
    return parts + [(layer, (), True) for layer in sorted(ablation.class_token)]


@contextmanager
def _replaced(clip: Clip, ablation: Ablation, put: _OutputMeans | None):
    """Run the model with the means in place of the parts (nothing at all where put is None)."""

    def attention(part):
        def edit(inputs, output):
            mean = 0 if put is None else put.members[part].mean.to(output)
            return output - _written(clip, part[0], inputs, output, *part[1:]).to(output.dtype) + mean

        return edit

    def mlp(layer):
        return lambda output: torch.zeros_like(output) + (0 if put is None else put.members[layer].mean.to(output))

    attention_edits = {part[0]: attention(part) for part in _attention_parts(ablation)}
    with edited_blocks(clip, attention_edits, {layer: mlp(layer) for layer in ablation.mlps}):
        yield
