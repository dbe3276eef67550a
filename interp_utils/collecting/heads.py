"""What chapter 2 wants from images: moments and texts of heads, answers under ablations, what layers write, top images."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from ..datasets import Task
from ..fingerprints import fingerprint
from ..heads import Answers, HeadMoments, TextSpan, ablations_of_tables, textspan
from ..heads.ablation import ask_answers, checked_labels, labels_and_groups
from ..heads.textspan import Head, ask_moments, ask_tops
from ..models import Clip
from ..moments import Rows
from ..saved import read
from ..stream import Asked, feed, in_pass
from ..texts import Pool
from .kept import about_run, kept_in, kept_meanwhile

STATISTICS = ("heads", "ablations", "layers", "top")
LAST_LAYERS, SIZE = 4, 60  # whose heads get texts and top images, and how many texts
FIRST = 1000  # images of which what each layer writes is kept


class Layers(NamedTuple):
    """What each term writes for the first images, [K, 2L+1, E], as `DirectEffects.layers` of unit images, and their labels [K]."""

    effects: Tensor
    labels: Tensor


class Collected(NamedTuple):
    """What a run of `collect` found; None for what was not asked for. Labels, texts and numbers are those of its `about`."""

    moments: dict[Head, HeadMoments] | None  # as of `heads.head_moments`
    answers: Answers | None  # as of `heads.answers_under`, to `heads.ablations_of_tables`
    layers: Layers | None  # as `heads.ablation_curve` takes them, of the first thousand images
    spans: dict[Head, TextSpan] | None  # of the heads of the last four layers
    tops: dict[Head, object] | None  # as of `heads.top_images`
    about: dict[str, str]

    @property
    def accuracy(self) -> dict[str, float]:
        """Share of the images that are classified rightly under each ablation."""
        return {name: right.double().mean().item() for name, right in self.answers.right.items()}


def collect(
    clip: Clip,
    task: Task,
    pool: Pool,
    save_to: str | Path | None = None,
    statistics: Sequence[str] = STATISTICS,
    ln: str | None = None,
    k: int = 4,
    **options,
) -> Collected:
    """Moments of all heads, answers under the ablations of the thesis's tables, layers, and top images of late heads: two passes.

    statistics: which of "heads", "ablations", "layers", "top"; pool: the texts that "top" chooses from; k: top images of a text;
    options: those of `feed`. save_to: a file for the result, which is read where it is there and has all that is asked for; None
    for none: then a small set runs the model once, see `stream.memory`. Each pass has a file beside it, from which the same call
    goes on, and which is gone in the end. Under `torchrun` every process calls this; the first one writes.
    Raises ValueError for other statistics, and, with what differs, for a file of another run; what `feed` raises.
    """
    unknown = set(statistics) - set(STATISTICS)
    if unknown or not statistics:
        raise ValueError(f"statistics must be some of {', '.join(STATISTICS)}, got {', '.join(statistics) or 'none'}")
    about = about_run(clip, task.images, ln, options)
    about |= {"classes": fingerprint([task.classes, task.templates]), "statistics": ",".join(sorted(statistics))}
    if "top" in statistics:
        about |= {"texts": fingerprint(pool.texts), "top images": f"{k}"}
    path = save_to and Path(save_to)
    return _collected(*kept_in(path, about, clip.device, lambda: _passes(clip, task, pool, path, statistics, ln, k, options)))


def _passes(clip: Clip, task: Task, pool: Pool, path: Path | None, statistics, ln: str | None, k: int, options: dict) -> dict:
    asked = ask_moments(clip, ln=ln) if {"heads", "top"} & set(statistics) else None
    first, second, answers, spans, tops = list(asked.statistics) if asked else [], [], None, None, None
    labelled = {"ablations", "layers"} & set(statistics)
    classifier = clip.encode_text(task.classes, task.templates) if labelled else None
    if "ablations" in statistics:
        means, answers = ask_answers(clip, classifier, ablations_of_tables(clip), ln=ln)
        first, second = [*first, *means], [*answers.statistics]
    layers = _ask_layers(classifier) if "layers" in statistics else None
    first += layers.statistics if layers else []
    options = kept_meanwhile(task.images, path) | {"ln": ln, **options, "save_to": path}
    passes = [in_pass(number, options) for number in (1, 2)]
    feed(clip, task.images, first, **passes[0])
    moments = asked.found() if asked else None
    if "top" in statistics:
        features, late = clip.encode_text(pool.texts), max(clip.n_layers - LAST_LAYERS, 0)
        spans = {head: textspan(each, features, pool.texts, SIZE) for head, each in moments.items() if head[0] >= late}
        tops = ask_tops(clip, spans, features, k)
        second = [*second, *tops.statistics]
    if second:
        feed(clip, task.images, second, **passes[1])
    return {
        "moments": moments and {head: vars(each) for head, each in moments.items()},
        "answers": answers and answers.found()._asdict(),
        "layers": layers and layers.found()._asdict(),
        "spans": spans and {head: vars(span) for head, span in spans.items()},
        "tops": tops and tops.found(),
    }


def _ask_layers(classifier: Tensor) -> Asked:
    effects, labels = Rows(), Rows()

    def view(values):
        return lambda batch: (values(batch)[batch.numbers < FIRST], batch.numbers[batch.numbers < FIRST])

    labels_of = view(lambda batch: checked_labels(labels_and_groups(batch)[0], classifier))
    statistics = [(effects, view(lambda batch: batch.layers)), (labels, labels_of)]
    return Asked(statistics, lambda: Layers(effects.rows, labels.rows))


def collected(path: str | Path) -> Collected:
    """What `collect` wrote: moments, answers, texts and top images as chapter 2's functions give and take them.

    Raises FileNotFoundError for no file, ValueError for one that `collect` did not write or has not finished.
    """
    path = Path(path)
    if not path.exists():
        begun = path.with_name(f"{path.stem}.1{path.suffix}").exists()
        raise FileNotFoundError(f"no file {path}" + ("; its run has not come to its end: start it again" if begun else ""))
    found, about = read(path)
    if not isinstance(found, dict) or set(found) != {*Collected._fields} - {"about"}:
        raise ValueError(f"{path} is no result of interp_utils.collect for chapter 2")
    return _collected(found, about)


def _collected(found: dict, about: dict[str, str]) -> Collected:
    moments, answers, layers, spans, tops = (found[name] for name in Collected._fields[:-1])
    return Collected(
        moments and {head: HeadMoments(**each) for head, each in moments.items()},
        answers and Answers(**answers),
        layers and Layers(**layers),
        spans and {head: TextSpan(**each) for head, each in spans.items()},
        tops,
        about,
    )
