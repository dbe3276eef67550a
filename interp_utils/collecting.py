"""What chapters 2 to 5 want from images or samples, from passes that can be stopped and shared by several processes."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from .datasets import Task
from .downloads import MATCHED
from .fingerprints import fingerprint
from .heads import Answers, HeadMoments, TextSpan, ablations_of_tables, head_moments, textspan
from .heads.ablation import ask_answers, checked_labels, labels_and_groups
from .heads.textspan import Head, ask_moments, ask_tops
from .models import Clip
from .moments import Rows
from .neurons import Effects, Lines, RankOne, SecondOrder, curve_layers, fit, second_order
from .presets import Preset
from .processes import rank_and_count, wait
from .rosetta import Generator, Match, UnitModel, Units, load_unit_model, match
from .runs import check_same, version
from .sandbox.known import KINDS
from .sandbox.known.mining import SEEING
from .sandbox.known.units import NAME, styles
from .saved import read, write
from .stream import Asked, feed, in_pass, memory
from .texts import Pool

STATISTICS = ("heads", "ablations", "layers", "top")
ALONE = {"neurons": "chapter 3", "matches": "chapter 4", "units": "chapter 5"}  # each in a file of its own, and who reads it
LAST_LAYERS, SIZE = 4, 60  # whose heads get texts and top images, and how many texts
FIRST = 1000  # images of which what each layer writes is kept
TOP = 30  # images with the largest effects, which give a neuron its direction in chapter 5


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
    for none. Each pass has a file beside it, from which the same call goes on, and which is gone in the end. Under `torchrun`
    every process calls this; the first one writes.
    Raises ValueError for other statistics, and, with what differs, for a file of another run; what `feed` raises.
    """
    unknown = set(statistics) - set(STATISTICS)
    if unknown or not statistics:
        raise ValueError(f"statistics must be some of {', '.join(STATISTICS)}, got {', '.join(statistics) or 'none'}")
    about = _about(clip, task.images, ln, options)
    about |= {"classes": fingerprint([task.classes, task.templates]), "statistics": ",".join(sorted(statistics))}
    if "top" in statistics:
        about |= {"texts": fingerprint(pool.texts), "top images": f"{k}"}
    path = save_to and Path(save_to)
    return _collected(*_kept(path, about, clip.device, lambda: _passes(clip, task, pool, path, statistics, ln, k, options)))


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
    options = {"kept": memory(task.images), "ln": ln, **options, "save_to": path}
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


def collect_neurons(
    clip: Clip, images: Sequence, save_to: str | Path | None = None, ln: str | None = None, **options
) -> list[SecondOrder]:
    """Second-order effects in all layers of chapter 3's curves, fitted in two passes over the images: "large" are 2 percent.

    In units of the length of an image's representation, as published. save_to, options and errors: as for `collect`.
    """
    orders = [second_order(clip, layer, ln, relative=True) for layer in curve_layers(clip.n_layers)]
    about, path = _about(clip, images, ln, options) | {"statistics": "neurons"}, save_to and Path(save_to)
    top = max(8, round(0.02 * len(images)))
    _set_fits(orders, _kept(path, about, clip.device, lambda: _fits(orders, images, top, path, options))[0])
    return orders


class Described(NamedTuple):
    """What `collect_units` found."""

    moments: dict[Head, HeadMoments]  # as of `heads.head_moments`
    orders: list[SecondOrder]  # fitted, as by `neurons.fit`


def collect_units(
    clip: Clip, images: Sequence, save_to: str | Path | None = None, heads=None, neurons=None, **options
) -> Described:
    """What chapter 5 describes heads and neurons by: moments, and second-order effects fitted on 30 images, in three passes.

    heads, neurons: the layers wanted, by default all, and all but the last. A file has those of all layers, whichever are asked
    for, so that one serves several notebooks. In units of the length of an image's representation, under the Clip's own ln.
    save_to, options and errors: as for `collect`.
    """
    path, options = save_to and Path(save_to), {"kept": memory(images), **options}
    every = list(range(clip.n_layers)), list(range(clip.n_layers - 1))
    heads, neurons = (full if asked is None else list(asked) for asked, full in zip((heads, neurons), every))
    orders = [second_order(clip, layer, relative=True) for layer in (every[1] if path else neurons)]

    def passes() -> list:
        moments = head_moments(clip, images, None if path else heads, **in_pass(3, {**options, "save_to": path}))
        return [{head: vars(each) for head, each in moments.items()}, _fits(orders, images, TOP, path, options)]

    about = _about(clip, images, None, options) | {"statistics": "units"}
    (moments, fits), _ = _kept(path, about, clip.device, passes)
    _set_fits(orders, fits)
    moments = {head: HeadMoments(**each) for head, each in moments.items() if head[0] in heads}
    return Described(moments, [order for order in orders if order.layer in neurons])


class Zoo(NamedTuple):
    """The models that chapter 4 matches under a preset, and on which samples of the generator."""

    in_z: Generator
    reference: Generator  # the same, drawn from its styles where it has some
    models: dict[str, UnitModel]  # by name, in the order of table 4.2
    kind: int | None  # the class of all samples, None for any
    samples: dict[str, tuple[Tensor, ...]]  # latents by name


def zoo(preset: Preset) -> Zoo:
    """BigGAN and the five models of table 4.2; under the presets "sandbox" and "laptop" the small ones that ship.

    Samples: "any", 96 of the preset's class, in the sandbox of all, and "one class", of which the thesis makes its dictionary.
    """
    small = preset.name in ("sandbox", "laptop")
    in_z = reference = load_unit_model(NAME if small else "biggan_deep256")
    if small:
        reference = styles(in_z)  # drawn from w, what the mapping network makes of z
    elif preset.name == "colab":  # its GPU cannot hold the correlations of all units
        reference.layers = tuple(name for name in reference.layers if name.endswith("conv_1"))
    kind, one, n = (None, KINDS.index("cat"), 96) if small else (0, 0, 1600)  # BigGAN's first class is the tench
    samples = {"any": reference.sample(96, seed=0, kind=kind), "one class": reference.sample(n, seed=1, kind=one)}
    return Zoo(in_z, reference, {name: load_unit_model(name) for name in (SEEING if small else MATCHED)}, kind, samples)


def collect_matches(
    reference: Generator | UnitModel, others: Sequence[UnitModel], samples: dict[str, Sequence],
    save_to: str | Path | None = None, batch_size: int = 32, k: int = 5,
) -> dict[str, list[Match]]:  # fmt: skip
    """Matches of a model with each other one, and last with itself, on several sets of inputs: {name of the set: matches}.

    samples: inputs by name, as `rosetta.match` takes them, and so are batch_size and k. save_to: as for `collect`; what is
    there is written after each pair of models, and goes on from there, for all sums of one pair would take gigabytes.
    """
    models, path = [*others, reference], save_to and Path(save_to)
    about = {f"model {each.name}": fingerprint(each) for each in models}
    about |= {f"sample {name!r}": fingerprint(sample) for name, sample in samples.items()}
    about |= {"neighbours": f"{k}", "statistics": "matches", "version of interp_utils": version()}

    def passes() -> dict:
        found, begun = {}, in_pass(1, {"save_to": path})["save_to"]
        if path and begun.exists():
            found, there = read(begun)
            check_same(begun, there, about)
        for name, sample in samples.items():
            for number, model in enumerate(models):
                if (name, number) not in found:
                    found[name, number] = asdict(match(reference, [model], sample, batch_size, k)[0])
                    if path and rank_and_count()[0] == 0:
                        write(begun, found, about)
        return found

    found = _kept(path, about, None, passes)[0]
    of = {key: Match(**each | {side: Units(**each[side]) for side in "ab"}) for key, each in found.items()}
    return {name: [of[name, number] for number in range(len(models))] for name in samples}


def _fits(orders: list[SecondOrder], images: Sequence, top: int, path: Path | None, options: dict) -> list:
    """What is to be kept of neurons, once they are fitted."""
    fit(orders, images, top, **options, save_to=path)
    kept = []
    for one in [order.rank_one for order in orders]:
        centre = [one.centre.coefficients, one.centre.shares]
        kept.append([centre, one.directions, one.thresholds, one.top_norms, one.top_images, one.top_share])
    return kept


def _set_fits(orders: list[SecondOrder], kept: list) -> None:
    for order, (centre, directions, *rest) in zip(orders, kept, strict=True):
        centre = Effects(order, *centre)
        order.fitted = RankOne(centre, centre.vectors()[0], directions, Lines(order, directions), *rest)


def _about(clip: Clip, images: Sequence, ln: str | None, options: dict) -> dict[str, str]:
    """What decides the numbers of a run, but for what it asks."""
    return {
        "clip": clip.name, "weights": fingerprint(clip.model), "preprocessing": fingerprint(clip.preprocess),
        "ln": clip.checked_ln(ln), "images": f"{len(images)}", "listing of the dataset": fingerprint(images),
        "choice of images": fingerprint(options.get("numbers")), "version of interp_utils": version(),
    }  # fmt: skip


def _kept(path: Path | None, about: dict[str, str], device, passes: Callable[[], object]) -> tuple:
    """What the file holds where it is there, else what `passes()` gives, which the first process writes; and its `about`.

    A file may have more statistics than are asked for. Raises ValueError, with what differs, for one of another run.
    """
    if path and path.exists():
        found, own = read(path, device)
        there = {part: each for part, each in own.items() if part in about or part not in ("texts", "top images")}
        if set(about["statistics"].split(",")) <= set(there.get("statistics", "").split(",")):
            there |= {"statistics": about["statistics"]}
        check_same(path, there, about)
        return found, own
    found = passes()
    if path and rank_and_count()[0] == 0:
        write(path, found, about)
        for number in (1, 2, 3):  # the files of the passes are of no more use
            in_pass(number, {"save_to": path})["save_to"].unlink(missing_ok=True)
    wait()
    return found, about


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
