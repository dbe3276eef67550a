"""What chapter 2 wants from a set of images, from two passes that can be stopped and shared by several processes."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from .datasets import Task
from .fingerprints import fingerprint
from .heads import Answers, HeadMoments, TextSpan, ablations_of_tables, textspan
from .heads.ablation import ask_answers
from .heads.textspan import Head, ask_moments, ask_tops
from .models import Clip
from .processes import rank_and_count, wait
from .runs import check_same, version
from .saved import read, write
from .stream import feed, in_pass
from .texts import Pool

STATISTICS = ("heads", "ablations", "top")
LAST_LAYERS, SIZE = 4, 60  # whose heads get texts and top images, and how many texts


class Collected(NamedTuple):
    """What a run of `collect` found; None for what was not asked for. Labels, texts and numbers are those of its `about`."""

    moments: dict[Head, HeadMoments] | None  # as of `heads.head_moments`
    answers: Answers | None  # as of `heads.answers_under`, to `heads.ablations_of_tables`
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
    save_to: str | Path,
    statistics: Sequence[str] = STATISTICS,
    ln: str | None = None,
    k: int = 4,
    **options,
) -> Collected:
    """Moments of all heads, answers under the ablations of the thesis's tables, and top images of late heads, in two passes.

    statistics: which of "heads", "ablations", "top"; pool: the texts that "top" chooses from; k: top images of a text; options:
    those of `feed`. Under `torchrun` every process calls this; the first one writes. Each pass has a file beside `save_to`, from
    which the same call goes on, and which is gone in the end.
    Raises ValueError for other statistics, and for a file of another run; what `feed` raises.
    """
    unknown = set(statistics) - set(STATISTICS)
    if unknown or not statistics:
        raise ValueError(f"statistics must be some of {', '.join(STATISTICS)}, got {', '.join(statistics) or 'none'}")
    about = {
        "clip": clip.name, "weights": fingerprint(clip.model), "preprocessing": fingerprint(clip.preprocess),
        "ln": clip.checked_ln(ln), "images": f"{len(task.images)}", "listing of the dataset": fingerprint(task.images),
        "classes": fingerprint([task.classes, task.templates]), "statistics": ",".join(sorted(statistics)),
        "texts": fingerprint(pool.texts), "top images": f"{k}", "options": fingerprint({**options, "every": None}),
        "version of interp_utils": version(),
    }  # fmt: skip
    path = Path(save_to)
    if path.exists():
        check_same(path, read(path)[1], about)
        return collected(path)
    asked = ask_moments(clip, ln=ln) if {"heads", "top"} & set(statistics) else None
    first, second, answers, spans, tops = list(asked.statistics) if asked else [], [], None, None, None
    if "ablations" in statistics:
        means, answers = ask_answers(clip, clip.encode_text(task.classes, task.templates), ablations_of_tables(clip), ln=ln)
        first, second = [*first, *means], [*answers.statistics]
    passes = [in_pass(number, {**options, "save_to": path}) for number in (1, 2)]
    feed(clip, task.images, first, ln=ln, **passes[0])
    moments = asked.found() if asked else None
    if "top" in statistics:
        features, late = clip.encode_text(pool.texts), max(clip.n_layers - LAST_LAYERS, 0)
        spans = {head: textspan(each, features, pool.texts, SIZE) for head, each in moments.items() if head[0] >= late}
        tops = ask_tops(clip, spans, features, k)
        second = [*second, *tops.statistics]
    if second:
        feed(clip, task.images, second, ln=ln, **passes[1])
    found = {
        "moments": moments and {head: vars(each) for head, each in moments.items()},
        "answers": answers and answers.found()._asdict(),
        "spans": spans and {head: vars(span) for head, span in spans.items()},
        "tops": tops and tops.found(),
    }
    if rank_and_count()[0] == 0:
        write(path, found, about)
        for each in passes:
            Path(each["save_to"]).unlink(missing_ok=True)
    wait()
    return _collected(found, about)


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
        raise ValueError(f"{path} is no result of interp_utils.collect")
    return _collected(found, about)


def _collected(found: dict, about: dict[str, str]) -> Collected:
    moments, answers, spans, tops = (found[name] for name in Collected._fields[:-1])
    return Collected(
        moments and {head: HeadMoments(**each) for head, each in moments.items()},
        answers and Answers(**answers),
        spans and {head: TextSpan(**each) for head, each in spans.items()},
        tops,
        about,
    )
