"""Widgets of chapter 4."""

import ipywidgets
import torch
from torch import Tensor

from .. import plots
from ..rosetta import Correlation, Dictionary, Generator, UnitModel, best_buddies, unit_map
from ..rounding import negligible
from .base import Explorer, counted

Reference = UnitModel | Generator
Inputs = Tensor | tuple[Tensor, ...]  # images in 0..1, or the latents that a generator sampled
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
    with torch.no_grad():
        images, own = reference(*inputs) if isinstance(reference, Generator) else (inputs, reference(inputs))
    images, maps = images.clamp(0, 1), {}
    for name, number in units.items():
        source, seen = (reference, own) if name == reference.name else (models[name], models[name](images))
        chosen = unit_map(seen, source.units, number).float().cpu()
        unit = source.units.names[number].replace(".mlp.act", "")
        maps[f"{short(name)} {unit}"] = standardised(chosen)
    return plots.method_maps(list(images.cpu()), maps, dict.fromkeys(maps, "standard deviations from the mean"))


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
    concepts = dictionary.concepts()
    if not 0 <= concept < len(concepts):
        raise IndexError(f"no concept {concept}: the dictionary has {len(concepts)}")
    entries = concepts[concept]
    chosen = entries[min(entry, len(entries) - 1)]
    place = dictionary.units.tolist().index(chosen.number)
    units = {reference.name: chosen.number} | dict(zip(dictionary.models, dictionary.partners[place].tolist()))
    figure = draw_units(reference, models, inputs, units)
    said = ", ".join(f"{short(name)} {chosen.correlations[name]:.2f}" for name in dictionary.models)
    return figure, f"concept {concept}, {counted(len(entries), 'unit')}; {chosen.unit} correlates with its partners: {said}"


def dictionary_explorer(reference: Reference, models: dict[str, UnitModel], inputs: Inputs, dictionary: Dictionary) -> Explorer:
    """Pick a concept and one of its units; see that unit and its partners in every model."""
    concepts = dictionary.concepts()
    if not concepts:
        raise ValueError("the dictionary is empty: no unit has a partner in every model; mine more images or raise k")

    def draw(concept: int, entry: int) -> tuple[plots.Picture, str]:
        return draw_concept(reference, models, inputs, dictionary, concept, entry)

    def units(concept: int) -> list[tuple[str, int]]:
        return [(each.unit, place) for place, each in enumerate(concepts[concept])]

    names = [(f"{k}: {each[0].unit}", k) for k, each in enumerate(concepts)]
    choose = ipywidgets.Dropdown(options=names, value=0, description="concept", **_STYLE)
    entry = ipywidgets.Dropdown(options=units(0), value=0, description="unit", **_STYLE)
    # only units that the concept has; before the explorer listens, so that it never sees those of another
    choose.observe(lambda change: setattr(entry, "options", units(change["new"])), "value")
    return Explorer(draw, concept=choose, entry=entry)


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
    figure = draw_units(reference, models, inputs, units)
    return figure, f"through {matches[model].a.names[through]} of {short(reference.name)}: " + ", ".join(parts)


def unit_explorer(
    reference: Reference,
    models: dict[str, UnitModel],
    inputs: Inputs,
    matches: dict[str, Correlation],
    start: tuple[str, int] | None = None,
) -> Explorer:
    """Pick a unit in one model; see it beside its partners in all others."""
    if set(matches) != set(models) or not models:
        raise ValueError(f"need a correlation for each model, got models {sorted(models)} and correlations {sorted(matches)}")

    def draw(model: str, unit: int) -> tuple[plots.Picture, str]:
        return draw_partners(reference, models, inputs, matches, model, unit)

    model, unit = start or (next(iter(models)), 0)
    choose = ipywidgets.Dropdown(options=list(models), value=model, description="model", **_STYLE)
    number = ipywidgets.IntText(unit, description="unit", continuous_update=False, **_STYLE)
    # of a smaller model the last; before the explorer listens. What is typed is not bounded in silence: an error says what there is
    choose.observe(lambda change: setattr(number, "value", min(number.value, len(matches[change["new"]].b) - 1)), "value")
    return Explorer(draw, model=choose, unit=number)
