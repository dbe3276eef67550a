"""Widgets of chapter 4."""

import ipywidgets
import torch
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from .. import plots
from ..rosetta import Correlation, Dictionary, Generator, UnitModel, best_buddies, unit_map
from ..rounding import negligible
from .base import Explorer, counted
from .controls import Search
from .views import ConceptBoard, encoded, rounded

Reference = UnitModel | Generator
Inputs = Tensor | tuple[Tensor, ...]  # images in 0..1, or the latents that a generator sampled
MEASURE = "standard deviations from the mean"
_STYLE = {"style": {"description_width": "60px"}}


def short(name: str) -> str:
    """A model's name without the folders it stands in: "sandbox/viewers/resnet" is "resnet"."""
    return name.rsplit("/", 1)[-1]


def standardised(maps: Tensor) -> Tensor:
    """Maps less their mean, divided by their standard deviation over all of them; zeros where they do not vary."""
    mean, std = maps.mean(), maps.std()
    return torch.zeros_like(maps) if negligible(std, mean.abs(), maps.dtype) else (maps - mean) / std


def draw_units(reference: Reference, models: dict[str, UnitModel], inputs: Inputs, units: dict[str, int]) -> plots.Picture:
    """Images, one a row, beside the map of one unit in each model.

    models: by name, the reference left out; units: the number of the unit to show, by model, the reference's included. Maps are
    less their mean and divided by their standard deviation over the images shown.
    """
    images, maps = unit_maps(reference, models, inputs, units)
    return plots.method_maps(list(images), maps, dict.fromkeys(maps, MEASURE))


def unit_maps(
    reference: Reference, models: dict[str, UnitModel], inputs: Inputs, units: dict[str, int]
) -> tuple[Tensor, dict[str, Tensor]]:
    """What `draw_units` shows: images [B, 3, H, W] in 0..1, and maps [B, h, w] by model and unit."""
    with torch.no_grad():
        images, own = reference(*inputs) if isinstance(reference, Generator) else (inputs, reference(inputs))
    images, maps = images.clamp(0, 1), {}
    for name, number in units.items():
        source, seen = (reference, own) if name == reference.name else (models[name], models[name](images))
        chosen = unit_map(seen, source.units, number).float().cpu()
        unit = source.units.names[number].replace(".mlp.act", "")
        maps[f"{short(name)} {unit}"] = standardised(chosen)
    return images.cpu(), maps


def fill_board(board: ConceptBoard, images: Tensor, maps: dict[str, Tensor], notes: list[str]) -> None:
    """Show images and maps of `unit_maps` on a board; notes: of each unit."""
    with board.hold_sync():
        board.units = [{"name": name, "note": note} for name, note in zip(maps, notes)]
        board.images = [
            {"image": encoded(to_pil_image(image)), "alt": f"image {k + 1}", "maps": [rounded(each[k]) for each in maps.values()]}
            for k, image in enumerate(images)
        ]


def draw_concept(
    reference: Reference,
    models: dict[str, UnitModel],
    inputs: Inputs,
    dictionary: Dictionary,
    concept: int,
    entry: int,
) -> tuple[plots.Picture, str]:
    """One Rosetta unit of a concept in every model on the same images, with a sentence (thesis, figures 4.1, 4.2, C.4 to C.11).

    entry: which of the concept's units, the strongest first; of fewer, the last. Raises IndexError for a concept that is not there.
    """
    units, _, sentence = _concept(reference, dictionary, concept, entry)
    return draw_units(reference, models, inputs, units), sentence


def _concept(reference: Reference, dictionary: Dictionary, concept: int, entry: int) -> tuple[dict[str, int], list[str], str]:
    """The units of a concept to show, by model; what to note of each; the sentence."""
    concepts = dictionary.concepts()
    if not 0 <= concept < len(concepts):
        raise IndexError(f"no concept {concept}: the dictionary has {len(concepts)}")
    entries = concepts[concept]
    chosen = entries[min(entry, len(entries) - 1)]
    place = dictionary.units.tolist().index(chosen.number)
    units = {reference.name: chosen.number} | dict(zip(dictionary.models, dictionary.partners[place].tolist()))
    said = ", ".join(f"{short(name)} {chosen.correlations[name]:.2f}" for name in dictionary.models)
    notes = ["", *(f"r\u00a0=\u00a0{chosen.correlations[name]:.2f}" for name in dictionary.models)]
    sentence = f"concept {concept}, {counted(len(entries), 'unit')}; {chosen.unit} correlates with its partners: {said}"
    return units, notes, sentence


def dictionary_explorer(reference: Reference, models: dict[str, UnitModel], inputs: Inputs, dictionary: Dictionary) -> Explorer:
    """Pick a concept and one of its units; see that unit and its partners in every model, place by place."""
    concepts = dictionary.concepts()
    if not concepts:
        raise ValueError("the dictionary is empty: no unit has a partner in every model; mine more images or raise k")

    def draw(concept: int, entry: int) -> tuple[plots.Picture, str]:
        return draw_concept(reference, models, inputs, dictionary, concept, entry)

    board = ConceptBoard(measure=MEASURE)

    def show(concept: int, entry: int) -> str:
        units, notes, sentence = _concept(reference, dictionary, concept, entry)
        fill_board(board, *unit_maps(reference, models, inputs, units), notes)
        return sentence

    def units(concept: int) -> list[tuple[str, int]]:
        return [(each.unit, place) for place, each in enumerate(concepts[concept])]

    names = [(f"{k}: {each[0].unit}", k) for k, each in enumerate(concepts)]
    choose = ipywidgets.Dropdown(options=names, value=0, description="concept", **_STYLE)
    entry = ipywidgets.Dropdown(options=units(0), value=0, description="unit", **_STYLE)
    # only units that the concept has; before the explorer listens, so that it never sees those of another
    choose.observe(lambda change: setattr(entry, "options", units(change["new"])), "value")
    every = {each.number: {"concept": k, "entry": e} for k, group in enumerate(concepts) for e, each in enumerate(group)}
    return Explorer(draw, [board], show, {"unit": every}, concept=choose, entry=entry)


def draw_partners(
    reference: Reference,
    models: dict[str, UnitModel],
    inputs: Inputs,
    matches: dict[str, Correlation],
    model: str,
    unit: int,
) -> tuple[plots.Picture, str]:
    """A unit of one model and its partners in the others, found through the reference's unit nearest to it, with a sentence.

    matches: correlations of the reference with each model, by the model's name. Raises IndexError for a unit that is not there.
    """
    units, _, sentence = _partners(reference, matches, model, unit)
    return draw_units(reference, models, inputs, units), sentence


def _partners(
    reference: Reference, matches: dict[str, Correlation], model: str, unit: int
) -> tuple[dict[str, int], list[str], str]:
    """A unit and its partners, by model; what to note of each; the sentence."""
    if not 0 <= unit < len(matches[model].b):
        raise IndexError(f"no unit {unit}: {model} has {len(matches[model].b)}")
    corr = {name: match.matrix.cpu() for name, match in matches.items()}
    through = corr[model][:, unit].argmax().item()
    units = {model: unit, reference.name: through}
    units |= {name: each[through].argmax().item() for name, each in corr.items() if name != model}
    parts = []
    for name, each in corr.items():
        buddies = (best_buddies(each) == torch.tensor([through, units[name]])).all(1).any().item()
        said = f"{short(name)} {matches[name].b.names[units[name]]} {each[through, units[name]]:.2f}"
        parts.append(said if buddies else f"{said} (no best buddies)")
    notes = ["" if name == reference.name else f"r\u00a0=\u00a0{corr[name][through, number]:.2f}" for name, number in units.items()]
    return units, notes, f"through {matches[model].a.names[through]} of {short(reference.name)}: " + ", ".join(parts)


def unit_explorer(
    reference: Reference,
    models: dict[str, UnitModel],
    inputs: Inputs,
    matches: dict[str, Correlation],
    start: tuple[str, int] | None = None,
) -> Explorer:
    """Pick a unit in one model; see it beside its partners in all others. Units stand in the order of their correlations."""
    if set(matches) != set(models) or not models:
        raise ValueError(f"need a correlation for each model, got models {sorted(models)} and correlations {sorted(matches)}")

    def draw(model: str, unit: int) -> tuple[plots.Picture, str]:
        return draw_partners(reference, models, inputs, matches, model, unit)

    board = ConceptBoard(measure=MEASURE)

    def show(model: str, unit: int) -> str:
        units, notes, sentence = _partners(reference, matches, model, unit)
        fill_board(board, *unit_maps(reference, models, inputs, units), notes)
        return sentence

    def options(model: str) -> list[tuple[str, int]]:
        best, names = matches[model].matrix.max(0).values, matches[model].b.names
        return [(f"{names[k]}, r = {best[k]:.2f}", k) for k in best.argsort(descending=True).tolist()]

    model, unit = start or (next(iter(models)), 0)
    choose = ipywidgets.Dropdown(options=list(models), value=model, description="model", **_STYLE)
    number = Search(options(model), unit, "unit", **_STYLE)
    # before the explorer listens, so that it never sees a unit of another model
    choose.observe(lambda change: setattr(number, "options", options(change["new"])), "value")
    return Explorer(draw, [board], show, model=choose, unit=number)
