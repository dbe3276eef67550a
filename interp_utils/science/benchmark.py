"""Score any method that names heads or neurons against the known truth, on three trainings of the sandbox CLIP.

    python -m interp_utils.science.benchmark    measure what is missing of data/sandbox/names.json; --again: all

A name is judged twice: by what *drives* the unit, and by what it *writes* into the joint space. Both are measured on images and
their known facts; no text takes part. data/sandbox/names.safetensors keeps this truth.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..models import DATA, load_clip
from ..neurons.second_order import second_order
from ..sandbox import FACTS, fact_of_prompt
from ..stream import collect
from ..texts import load_pool
from .hypotheses import activation_units
from .methods import METHODS, Method
from .seen import N_SEEN, Seen, chosen_units, effects_of, seen_of
from .truth import FactMeans, held_out_images

TABLE, TRUTH = DATA / "sandbox" / "names.json", DATA / "sandbox" / "names.safetensors"
CLIPS, KINDS, JUDGES = ("sandbox", "sandbox-1", "sandbox-2"), ("heads", "neurons"), ("drives", "writes")
N_TRUTH = 3000  # images


@cache
def _pool(name: str) -> tuple[list[str], Tensor]:
    texts = load_pool("sandbox").texts
    return texts, load_clip(name, device="cpu").encode_text(texts).float()


def measured_truth(name: str, kind: str, n_images: int = N_TRUTH) -> dict[str, Tensor]:
    """How strongly each fact drives each unit, and how much of it the unit writes: [U, facts] each.

    drives: how far answers to images with the fact lie from those without, in standard deviations (see `fact_differences`); of
    heads the whole effect, so a length; of neurons the activation averaged over patches, with its sign.
    writes: let d be the direction in which the fact moves the whole representation of images. Of heads: the standard deviation of
    the effect along d, as a share of that in all directions. Of neurons: along d, the covariance of effect and activation as a
    share of the most that it can be, so that a neuron writes what it adds when it is active.
    """
    clip, units = load_clip(name, device="cpu"), chosen_units(name, kind)
    view, images = effects_of(clip, kind, units), held_out_images(n_images, preprocess=clip.preprocess)
    active = None
    if kind == "neurons":
        order = second_order(clip, units[0][0], relative=True)
        active = activation_units(order, [number for _, number in units]).vectors
    read = (lambda batch: batch.heads[:, :0, 0]) if active is None else active
    effects, answers, whole, labels = collect(
        clip, images, lambda batch: (view(batch), read(batch), batch.representation[:, None], batch.targets)
    )
    drives, moved = FactMeans(), FactMeans()
    drives.update(effects if active is None else answers, labels)
    moved.update(whole, labels)
    directions = F.normalize(moved.shifts()[:, 0].float(), dim=-1)  # [facts, E]
    effects = effects - effects.mean(0)
    spread = effects.square().mean(0).sum(-1, keepdim=True).sqrt()  # [U, 1]
    if active is None:
        writes = torch.einsum("kue,fe->kuf", effects, directions).square().mean(0).sqrt() / spread
    else:
        answers = (answers - answers.mean(0))[..., 0]
        along = torch.einsum("ku,kue->ue", answers / answers.std(0), effects) / len(effects)
        writes = along @ directions.T / spread
    return {"drives": drives.differences(), "writes": writes.nan_to_num(0)}


@cache
def truth_of(name: str, kind: str) -> dict[str, Tensor]:
    """The saved truth of a sandbox CLIP by name, see `measured_truth`."""
    if not TRUTH.exists():
        raise FileNotFoundError(f"{TRUTH} is missing; restore it with: git checkout -- data")
    saved = load_file(TRUTH)
    return {judge: saved[f"{name}.{kind}.{judge}"].float() for judge in JUDGES}


def strengths(names: Sequence[Sequence[str]], truth: Tensor) -> tuple[Tensor, Tensor]:
    """How strong the fact of each unit's first name is, as a share of the unit's strongest, and by chance: [U] each, 0 to 1.

    names: texts of each unit, best first, prompts of the sandbox; no text counts 0. truth: [U, facts]. A negative strength counts
    0. Chance: the first names of all units dealt out at random. Raises ValueError for a text that is no prompt, or another
    number of lists than of units.
    """
    if len(names) != len(truth):
        raise ValueError(f"need a list of texts for each of {len(truth)} units, got {len(names)}")
    first, fact_of = [row[0] if len(row) else None for row in names], fact_of_prompt()
    if strange := [text for text in first if text is not None and text.casefold() not in fact_of]:
        raise ValueError(f"{strange[0]!r} is no text of the pool; a method returns some of the texts that it is given")
    share = truth.clamp(min=0) / truth.amax(1, keepdim=True).clamp(min=1e-9)
    numbers = [None if text is None else FACTS.index(fact_of[text.casefold()]) for text in first]
    dealt = torch.stack([torch.zeros(len(share)) if k is None else share[:, k] for k in numbers], 1)  # [U, names]
    return dealt.diagonal().clone(), dealt.mean(1)


@dataclass
class NameScore:
    """How well a method names the units of some CLIPs: see `strengths`, by CLIP and judge, and what it took."""

    found: dict[str, dict[str, Tensor]] = field(default_factory=dict)  # CLIP -> judge -> [2, U], the method's and chance
    seconds: dict[str, float] = field(default_factory=dict)  # of one processor, the method alone

    def mean(self, judge: str) -> float:
        return self._mean(judge, 0)

    def chance(self, judge: str) -> float:
        return self._mean(judge, 1)

    def _mean(self, judge: str, k: int) -> float:
        return torch.stack([each[judge][k].mean() for each in self.found.values()]).mean().item()

    def interval(self, judge: str) -> tuple[float, float]:
        """95 percent, bootstrap over trainings, and over units within each."""
        return _nested([each[judge][0].numpy() for each in self.found.values()])

    def lead(self, other: "NameScore", judge: str) -> tuple[float, float, float]:
        """How far above another method of the same units, and the ends of its interval. None: above chance."""
        gaps = [
            each[judge][0] - (each[judge][1] if other is None else other.found[name][judge][0]) for name, each in self.found.items()
        ]
        return float(np.mean([gap.mean() for gap in gaps])), *_nested([gap.numpy() for gap in gaps])

    def __str__(self) -> str:
        """ "drives 31 (25 to 38), by chance 12; writes 60 (52 to 66), by chance 33": percent."""
        said = []
        for judge in JUDGES:
            low, high = self.interval(judge)
            numbers = f"{100 * self.mean(judge):.0f} ({100 * low:.0f} to {100 * high:.0f})"
            said.append(f"{judge} {numbers}, by chance {100 * self.chance(judge):.0f}")
        return "; ".join(said)


def _nested(groups: list[np.ndarray], resamples: int = 2000, seed: int = 0) -> tuple[float, float]:
    """95 percent interval of the mean over groups of their means: draws of groups, and of members within each."""
    rng = np.random.default_rng(seed)
    means = np.stack([each[rng.integers(len(each), size=(resamples, len(each)))].mean(1) for each in groups])
    drawn = rng.integers(len(groups), size=(len(groups), resamples))
    low, high = np.quantile(np.take_along_axis(means, drawn, 0).mean(0), [0.025, 0.975])
    return float(low), float(high)


def score_names(method: Method, kind: str = "heads", clips: Sequence[str] = CLIPS, n_images: int = N_SEEN) -> NameScore:
    """Name the units of some sandbox CLIPs by any method, and compare the first name of each with the known truth.

    method: method(seen, texts, vectors) -> for each unit some of the texts, the best first; see `methods`. kind: heads or neurons.
    n_images: on which the effects are read. Raises what `strengths` raises.
    """
    score = NameScore()
    for name in clips:
        seen, (texts, vectors) = seen_of(name, kind, n_images), _pool(name)
        seen = Seen(seen.clip, seen.kind, seen.units, seen.effects, seen.representations)  # nothing is computed yet
        start = time.process_time()
        names = method(seen, texts, vectors)
        score.seconds[name] = time.process_time() - start
        truth = truth_of(name, kind)
        score.found[name] = {judge: torch.stack(strengths(names, truth[judge])) for judge in JUDGES}
    return score


def saved_scores(kind: str, path: Path = TABLE) -> dict[str, NameScore]:
    """The table of all methods of `methods.METHODS`, as it was measured."""
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing; restore it with: git checkout -- data")
    scores = {}
    for method, clips in json.loads(path.read_text(encoding="utf-8"))[kind].items():
        found = {name: {judge: torch.tensor(each[judge]) for judge in JUDGES} for name, each in clips.items()}
        scores[method] = NameScore(found, {name: each["seconds"] for name, each in clips.items()})
    return scores


def main():
    parser = argparse.ArgumentParser(description="Measure what is missing of the table of naming methods.")
    parser.add_argument("--again", action="store_true", help="measure all again")
    again = parser.parse_args().again
    torch.set_num_threads(1)
    truth = load_file(TRUTH) if TRUTH.exists() and not again else {}
    table = json.loads(TABLE.read_text(encoding="utf-8")) if TABLE.exists() and not again else {}
    for name in CLIPS:
        for kind in KINDS:
            if f"{name}.{kind}.drives" not in truth:
                truth |= {f"{name}.{kind}.{judge}": each.half() for judge, each in measured_truth(name, kind).items()}
                save_file(truth, TRUTH)
    for kind in KINDS:
        for method, function in METHODS.items():
            if kind == "neurons" and method == "weights alone":
                continue
            of_method = table.setdefault(kind, {}).setdefault(method, {})
            for name in CLIPS:
                if name not in of_method:
                    score = score_names(function, kind, [name])
                    rows = {j: [[round(x, 4) for x in row] for row in v.tolist()] for j, v in score.found[name].items()}
                    of_method[name] = rows | {"seconds": round(score.seconds[name], 3)}
                    TABLE.write_text(json.dumps(table) + "\n", encoding="utf-8")
            print(f"{kind}, {method}: {saved_scores(kind)[method]}", flush=True)


if __name__ == "__main__":
    main()
