"""What chapter 4 wants from samples of a generator: which units of other models match its own."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from ..downloads import MATCHED
from ..fingerprints import fingerprint
from ..presets import Preset
from ..processes import rank_and_count
from ..rosetta import Generator, Match, UnitModel, Units, load_unit_model, match
from ..runs import check_same, version
from ..sandbox.known import KINDS
from ..sandbox.known.mining import SEEING
from ..sandbox.known.units import NAME, styles
from ..saved import read, write
from ..stream import in_pass
from .kept import kept_in


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
            if path is None:  # one pass for all, where their sums are small
                found |= {
                    (name, number): asdict(each) for number, each in enumerate(match(reference, models, sample, batch_size, k))
                }
                continue
            for number, model in enumerate(models):
                if (name, number) not in found:
                    found[name, number] = asdict(match(reference, [model], sample, batch_size, k)[0])
                    if rank_and_count()[0] == 0:
                        write(begun, found, about)
        return found

    found = kept_in(path, about, None, passes)[0]
    of = {key: Match(**each | {side: Units(**each[side]) for side in "ab"}) for key, each in found.items()}
    return {name: [of[name, number] for number in range(len(models))] for name in samples}
