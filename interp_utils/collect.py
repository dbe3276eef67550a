"""What chapter 2 wants from a set of images, from two passes that can be stopped and shared: python -m interp_utils.collect

    python -m interp_utils.collect --clip ViT-L-14/laion2b_s32b_b82k --images imagenet --statistics heads,ablations,top \\
        --save-to run.safetensors
    torchrun --nproc-per-node 8 -m interp_utils.collect ...    the same, by eight processes

Started again, it goes on where it was. `interp_utils.collected("run.safetensors")` reads what it found.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from .datasets import Task, load_task
from .fingerprints import fingerprint
from .heads import Answers, HeadMoments, TextSpan, ablations_of_tables, textspan
from .heads.ablation import ask_answers
from .heads.textspan import Head, ask_moments, ask_tops
from .models import Clip, load_clip
from .processes import rank_and_count, wait
from .runs import check_same, version
from .saved import read, write
from .stream import feed, in_pass
from .texts import Pool, load_pool, understood

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


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m interp_utils.collect", description=__doc__.splitlines()[0].split(":")[0] + ".")
    parser.add_argument("--clip", default="sandbox", help="a model as load_clip takes it, say ViT-B-32-quickgelu/openai")
    parser.add_argument("--precision", default="fp32", help="of its weights, as load_clip takes it")
    parser.add_argument("--images", default="sandbox", help="an image set by name, or a folder, as load_task takes it")
    parser.add_argument("--n-images", type=int, help="so many images of the set; all by default")
    parser.add_argument("--texts", default="general", help="a pool of texts by name, or a file, for the top images")
    parser.add_argument("--statistics", default=",".join(STATISTICS), help="some of " + ",".join(STATISTICS))
    parser.add_argument("--ln", default="centered", help='"centered", or "split" for the numbers of the thesis')
    parser.add_argument("--save-to", required=True, help="the file to write, and to go on from")
    parser.add_argument("--every", type=float, default=60, help="seconds from one writing of what is there to the next")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--skip", action="store_true", help="leave out images that cannot be read, and list them")
    asked = parser.parse_args(arguments)
    clip = load_clip(asked.clip, precision=asked.precision)
    task, pool = load_task(asked.images, clip.preprocess, asked.n_images), understood(clip, load_pool(asked.texts))
    options = {"every": asked.every, "batch_size": asked.batch_size, "on_error": "skip" if asked.skip else "raise"}
    found = collect(clip, task, pool, asked.save_to, asked.statistics.split(","), asked.ln, **options)
    if rank_and_count()[0] == 0:
        print(f"{asked.save_to}: {', '.join(name for name, each in found._asdict().items() if each is not None)}")


if __name__ == "__main__":
    main()
