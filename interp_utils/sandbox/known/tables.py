"""The long tables of chapter 4, measured on the known generator and an adversarial one. Each goes on where it was stopped.

    python -m interp_utils.sandbox.known.tables edits layout inversion buddies gan led

Every table is a function of how many images it takes, so that a test can make its first rows again. No model that guides an edit or
an inversion judges it: places, sizes and kinds come from the reader, distances from the sandbox CLIP.
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ... import rosetta
from ...models import DATA
from ...rosetta.judging.experiments import Done, Results, edit_table, inversion_table, load_results
from ..render import restyle
from .latents import KINDS, factors, picture, sample
from .mining import GAN, SEEING, Judged, Mined, chosen, clip_maps, mine, read_as_single, with_objects
from .reader import load_reader
from .units import NAME, style, styles

MOVES = {
    "right": rosetta.shift(0.25, border=True), "up": rosetta.shift(down=-0.25, border=True), "zoom": rosetta.zoom(2),
    "copy": rosetta.copy_paste(border=True),
}  # fmt: skip
IN_W = {"steps": 40, "lr": 0.05, "alpha": 8.0}  # edits of places and sizes, in the style
IN_Z = {"steps": 80, "lr": 0.05, "alpha": 0.05}  # removal in the latent, which can draw nothing but images of this world
OUT = {"steps": 40, "lr": 0.05, "alpha": 1.0}  # removal in the style, which can leave it
LED = {"steps": 40, "lr": 0.1, "alpha": 0.1}  # inversion by maps alone, in the latent
INVERTED = {80: 48, 300: 12, 1000: 12}  # steps -> pictures: guidance helps early, where many can be had
GAN_SETS = ("Rosetta", "random 0", "random 1", "untrained 0")  # of units, by which images of the adversarial generator are edited
GAN_ROWS = tuple(f"{edit}, {name}" for edit in MOVES for name in GAN_SETS) + tuple(
    f"remove, {name}{way}" for name in (*GAN_SETS, "same correlation") for way in ("", ", in w")
)
FEW = 2  # units by which an object is removed; the thesis takes one or two
HELD = 4  # Rosetta units that follow the object least: those of the background. More of them would outweigh the few


def unit_sets(mined: Mined, r: Tensor, blanks: list[Mined]) -> dict[str, Tensor]:
    """Numbers of the units by which moves are made: Rosetta units, and as many of each control.

    r: correlation of each unit with the object. "same correlation": no Rosetta units, each the one whose correlation is nearest
    to that of a Rosetta unit; "untrained": the strongest in the dictionaries of untrained partners.
    """
    chosen, free = mined.dictionary.units, _free(mined)
    sets = {"Rosetta": chosen}
    for seed in range(3):
        sets[f"random {seed}"] = free[torch.randperm(len(free), generator=torch.Generator().manual_seed(seed))[: len(chosen)]]
    sets["same correlation"] = _nearest(r, chosen, free)
    for seed, blank in enumerate(blanks):
        strength = blank.dictionary.correlations.mean(1)
        sets[f"untrained {seed}"] = blank.dictionary.units[strength.argsort(descending=True)[: len(chosen)]]
    return sets


def object_sets(mined: Mined, r: Tensor, blanks: list[Mined]) -> dict[str, Tensor]:
    """Numbers of the few units by which an object is removed: the Rosetta units most correlated with it, and of each control."""
    units, free = mined.dictionary.units, _free(mined)
    best = units[r[units].argsort(descending=True)[:FEW]]
    sets = {"Rosetta": best, "same correlation": _nearest(r, best, free)}
    for seed in range(3):
        sets[f"random {seed}"] = free[torch.randperm(len(free), generator=torch.Generator().manual_seed(10 + seed))[:FEW]]
    for seed, blank in enumerate(blanks):
        theirs = blank.dictionary.units
        sets[f"untrained {seed}"] = theirs[r[theirs].argsort(descending=True)[:FEW]]
    return sets


def _free(mined: Mined) -> Tensor:
    """Units that vary and are no Rosetta units."""
    varies = mined.own.matrix.diagonal() > 0.99
    varies[mined.dictionary.units] = False
    return varies.nonzero()[:, 0]


def _nearest(r: Tensor, wanted: Tensor, free: Tensor) -> Tensor:
    left, found = free.tolist(), []
    for unit in wanted.tolist():
        best = min(left, key=lambda other: abs(r[other].item() - r[unit].item()))
        left.remove(best)
        found.append(best)
    return torch.tensor(found)


def edits(
    n: int = 20, first: int | None = None, only: tuple[str, ...] = (), finished: str | Path | None = None, of: str = NAME
) -> Results:
    """What edits did to n drawn images: "edit, units" -> measures [n] (see `mining.Judged`); "units, set" -> their numbers.

    first: of how many of the n images; only: which rows, by default all. Moves, zooms and copies are asked for in w; "remove" by
    two units, in z, in w, and in w while Rosetta units of the background are held; "pixels": the image itself is
    changed, and its pixels are matched. of: the generator; of `GAN`, one draw of untrained partners.
    """
    mined = mine(of=of)
    blanks = [mine(pretrained=False, seed=seed, own=mined.own, of=of) for seed in range(3 if of == NAME else 1)]
    r = with_objects(mined.generator, reader=None if of == NAME else load_reader())
    rosetta_units = mined.dictionary.units
    sets = {f"units, {name}": numbers for name, numbers in unit_sets(mined, r, blanks).items()}
    sets |= {f"object unit, {name}": numbers for name, numbers in object_sets(mined, r, blanks).items()}
    sets["background"] = rosetta_units[r[rosetta_units].abs().argsort()[:HELD]]
    units = {name: {"numbers": numbers} for name, numbers in sets.items()}
    return units | edits_by(mined.own, units, n, first, only, finished, of)


def edits_by(
    own: rosetta.Correlation, units: Results, n: int, first=None, only: tuple[str, ...] = (), finished=None, of: str = NAME
) -> Results:
    """The rows of `edits` by units that are known already. own: the generator's correlation with itself."""
    in_z = rosetta.load_unit_model(of)
    in_w = styles(in_z)
    z, c = chosen(n)[:2] if of == NAME else read_as_single(in_z, n)
    z, c = z[:first], c[:first]
    w = (style(in_z, z).cpu(), c)
    judged = Judged(load_reader(), in_w(*w)[0])
    numbers = {name: row["numbers"] for name, row in units.items() if "numbers" in row}
    moving, removing = (
        {name.removeprefix(what): each for name, each in numbers.items() if name.startswith(what)}
        for what in ("units, ", "object unit, ")
    )
    background = numbers["background"]
    found: Results = {}
    rows = []
    for edit, change in MOVES.items():
        for name, numbers in {**moving, "pixels": None}.items():
            rows.append((f"{edit}, {name}", in_w, w, numbers, change, IN_W))
    for name, numbers in removing.items():
        change = rosetta.set_units(in_z.units, numbers.tolist())
        held = torch.cat([numbers, background[~torch.isin(background, numbers)]])
        rows.append((f"remove, {name}", in_z, (z, c), numbers, change, IN_Z))
        rows.append((f"remove, {name}, in w", in_w, w, numbers, change, OUT))
        rows.append((f"remove, {name}, in w, background held", in_w, w, held, change, OUT))
    for row, generator, latents, numbers, change, options in rows:
        if not only or row in only:
            edit, name = row.split(", ", 1)
            pairs = {} if numbers is None else {name: rosetta.own_pairs(own, numbers)}
            more = {"pixels": numbers is None, "finished": finished}
            found |= edit_table(generator, pairs, latents, {edit: change}, judged, **more, **options)
    return found


def restyled(images: Tensor, style: str) -> Tensor:
    """Images [B, 3, 64, 64] in 0..1 as a "sketch" or a "negative"."""
    pixels = (images * 255).round().byte().movedim(1, 3).numpy()
    return torch.from_numpy(np.stack([restyle(each, style) for each in pixels])).movedim(3, 1).float() / 255


def layout(n: int = 100, first: int | None = None, only: tuple[str, ...] = (), finished: str | Path | None = None) -> Results:
    """Inversion of images that the generator cannot draw, from maps alone: "target, guided by" -> measures [n].

    Targets are n exact pictures of one object anywhere: as they are, as a sketch, in negative, and with another class asked for
    than they show ("cross-class"). Measures: where the object is in the target and in what was drawn ("x", "y", "found x",
    "found y", shares of the side, nan where none is found), and whether what was drawn reads as the class asked for ("named").
    In z, so that what is found is an image of the generator's world. first, only: as for `edits`.
    """
    mined, done, generator = mine(), Done(finished), rosetta.load_unit_model(NAME)
    z, c, known = chosen(n, seed=1, size=(26, 40), across=(12, 52), down=(12, 52))
    image, _ = picture(known, c.argmax(1))
    start = generator.sample(n, seed=2)[0]
    image, c, start, places = image[:first], c[:first], start[:first], known.places[:first, 0] / 64
    targets = {"photo": (image, c), "sketch": (restyled(image, "sketch"), c), "negative": (restyled(image, "negative"), c)}
    targets["cross-class"] = (image, c.roll(3, 1))

    def inverted(target: Tensor, asked: Tensor, models) -> dict[str, Tensor]:
        guides = [rosetta.Guidance(pairs, model(target), "instance") for model, pairs in models]
        return _found(rosetta.invert(generator, guides, (start, asked), **LED).images, asked, places)

    found = {"start": done("start", lambda: _found(generator(start, c)[0], c, places))}
    for by in ("trained", "untrained 0", "untrained 1", "untrained 2"):
        looks = targets if by in ("trained", "untrained 0") else ("photo",)  # of the other untrained partners photographs alone
        rows = {f"{name}, {by}": targets[name] for name in looks if not only or f"{name}, {by}" in only}
        if rows:
            models = mined.pairs if by == "trained" else mine(pretrained=False, seed=int(by[-1]), own=mined.own).pairs
            for row, (target, asked) in rows.items():
                found[row] = done(row, partial(inverted, target, asked, models))
    return found


def _found(images: Tensor, asked: Tensor, places: Tensor) -> dict[str, Tensor]:
    """What the reader says of images that were led: see `layout`. places: of the objects that led them, [n, 2]."""
    read = load_reader().read(images)
    middle, _ = rosetta.judges.places(read.masks > 0.5)
    named = (read.object.argmax(1) == asked.argmax(1)).float()
    return {"x": places[:, 0], "y": places[:, 1], "found x": middle[:, 0], "found y": middle[:, 1], "named": named}


def inversion(
    n: int | None = None, first: int | None = None, only: tuple[str, ...] = (), finished: str | Path | None = None
) -> Results:
    """Table 4.1 on exact pictures: "loss, steps" -> PSNR, SSIM and distance of each, after 80, 300 and 1,000 steps.

    n: how many pictures, by default `INVERTED`. Of the untrained partners, seeds 1 and 2 stop at 300.

    In w, from the mean style and the picture's class. Rows of the table beside pairs of untrained partners; what more steps give
    without guidance stands in the same table. first, only: as for `edits`.
    """
    mined = mine()
    guided = {
        "perceptual loss": [],
        "+ DINO ResNet": _matched(mined, "dino_resnet"),
        "+ CLIP ResNet": _matched(mined, "clip_resnet"),
    }
    guided["+ all"] = mined.pairs
    if not only or any("untrained" in row for row in only):
        guided |= {f"+ all, untrained {seed}": mine(pretrained=False, seed=seed, own=mined.own).pairs for seed in range(3)}
    z = sample(n or max(INVERTED.values()), torch.Generator().manual_seed(11))[:first]
    c = F.one_hot(torch.arange(len(z)) % len(KINDS), len(KINDS)).float()
    target, _ = picture(factors(z), c.argmax(1))
    mean = mined.generator.sample(2000, seed=12)[0].mean(0)
    start, distance = (mean.expand(len(z), -1).clone(), c), rosetta.quality.perceptual(clip_maps())
    seen_by = next(model for name, model in mined.models.items() if name.endswith("/resnet"))  # the supervised one
    found: Results = {}
    for steps, few in INVERTED.items():
        rows = {f"{name}, {steps} steps": models for name, models in guided.items()}
        if steps == 1000:
            rows = {row: models for row, models in rows.items() if not row.startswith(("+ all, untrained 1", "+ all, untrained 2"))}
        rows = {row: models for row, models in rows.items() if not only or row in only}
        options = {"steps": steps, "lr": 0.05, "alpha": 0.1, "origin": mean, "batch_size": 24, "finished": finished}
        if rows:
            some, latents = target[: n or few], tuple(part[: n or few] for part in start)
            found |= inversion_table(mined.generator, rows, some, latents, seen_by, distance, **options)
    return found


def _matched(mined: Mined, ending: str) -> list[tuple[rosetta.UnitModel, rosetta.Pairs]]:
    """The model whose name ends so, with its best buddies."""
    place, model = next((k, model) for k, model in enumerate(mined.models.values()) if model.name.endswith(f"/{ending}"))
    return [(model, rosetta.matched_pairs(mined.matches[place]))]


def buddies(n: int = 96, names=SEEING, positions=("as it is", "taken out"), seeds: int = 3, finished=None) -> Results:
    """Best buddies above chance: "model, which, position" -> counts for draws of images.

    which: "trained" or "untrained", position: "as it is" or "taken out". Each draw of n images goes with one untrained copy.
    Measures: "pairs", their mean correlation "mean", and how many are "above" what one in twenty reaches on shuffled images.
    """
    generator, done = styles(rosetta.load_unit_model(NAME)), Done(finished)
    found: Results = {}
    for name in names:
        for position in positions:
            for seed in range(seeds):

                def run(name=name, position=position, seed=seed):
                    models = [rosetta.load_unit_model(name, pretrained=flag, seed=seed) for flag in (True, False)]
                    latents, out = generator.sample(n, seed=100 + seed), position == "taken out"
                    seen, by_chance = (
                        rosetta.correlate(generator, models, latents, batch_size=32, shuffled=shuffled, without_position=out)
                        for shuffled in (False, True)
                    )
                    return {
                        f"{which} {measure}": torch.tensor([value])
                        for which, one, other in zip(("trained", "untrained"), seen, by_chance)
                        for measure, value in above_chance(one.matrix, other.matrix).items()
                    }

                for measure, value in done(f"{name}, {position}, {seed}", run).items():
                    which, measure = measure.split(" ", 1)
                    found.setdefault(f"{name}, {which}, {position}", {}).setdefault(measure, []).append(value)
    return {name: {measure: torch.cat(values) for measure, values in row.items()} for name, row in found.items()}


def led(n: int = 40, first: int | None = None, only: tuple[str, ...] = (), finished: str | Path | None = None) -> Results:
    """The known generator led by images of `GAN`, from maps alone: "pairs of units" -> measures [n], as in `layout`.

    Pairs: units that are best buddies of one unit of the CLIP ResNet, "trained" or "untrained"; "random": the same units, paired by
    lot. Both places are the reader's. The known generator is asked for the leader's class. first, only: as for `edits`.
    """
    done, seen = Done(finished), "sandbox/viewers/clip_resnet"
    leader, generator = rosetta.load_unit_model(GAN), rosetta.load_unit_model(NAME)
    z, c = read_as_single(leader, n, area=(0.02, 0.3), across=(12, 52), down=(12, 52))
    z, c, start = z[:first], c[:first], generator.sample(n, seed=2)[0][:first]
    with torch.no_grad():
        images, maps = leader(z, c)
    places, _ = rosetta.judges.places(load_reader().read(images).masks > 0.5)

    def pairs(by: str) -> rosetta.Pairs:
        model = rosetta.load_unit_model(seen, pretrained=by != "untrained")
        found = rosetta.translated_pairs(*(rosetta.correlate(each, model, each.sample(160), 32) for each in (leader, generator)))
        lot = torch.randperm(len(found), generator=torch.Generator().manual_seed(0)) if by == "random" else torch.arange(len(found))
        return rosetta.Pairs(
            found.a, found.b,
            *(torch.stack([both[:, 0], both[lot, 1]], 1) for both in (found.numbers, found.means, found.stds)),
        )  # fmt: skip

    def measured(by: str) -> dict[str, Tensor]:
        guide = [] if by == "start" else [rosetta.Guidance(pairs(by), maps, "instance")]
        latents = (start, c)
        return _found(rosetta.invert(generator, guide, latents, **LED).images if guide else generator(*latents)[0], c, places)

    rows = [by for by in ("start", "trained", "untrained", "random") if not only or by in only]
    return {by: done(by, partial(measured, by)) for by in rows}


def above_chance(seen: Tensor, shuffled: Tensor) -> dict[str, float]:
    """Of correlations [A, C]: best buddies, their mean, and how many are above what one in twenty reaches on shuffled images."""
    values, chance = (each[rosetta.best_buddies(each).unbind(1)] for each in (seen, shuffled))
    return {"pairs": float(len(values)), "mean": values.mean().item(), "above": float((values > chance.quantile(0.95)).sum())}


def saved(name: str) -> Results:
    """A table as it ships. Raises FileNotFoundError where it has not been made yet."""
    path = DATA / "sandbox" / f"known_{name}.safetensors"
    if not path.exists():
        raise FileNotFoundError(f"no table at {path}; make it with: python -m interp_utils.sandbox.known.tables {name}")
    return load_results(path)


TABLES = {
    "edits": edits,
    "layout": layout,
    "inversion": inversion,
    "buddies": buddies,
    "gan": partial(edits, of=GAN, only=GAN_ROWS),
    "led": led,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="+", choices=TABLES)
    parser.add_argument("--images", type=int, help="by default those of the saved tables")
    parser.add_argument("--out", type=Path, default=DATA / "sandbox")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for name in args.tables:
        unfinished = args.out / f"known_{name}.unfinished.safetensors"
        count = {} if args.images is None else {"n": args.images}
        rosetta.experiments.save_results(TABLES[name](finished=unfinished, **count), args.out / f"known_{name}.safetensors")
        unfinished.unlink(missing_ok=True)
        print(name, "done", flush=True)


if __name__ == "__main__":
    main()
