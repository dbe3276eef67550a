"""Concepts of chapter 4 for an atlas: units that a generator shares with models that see, on images that it draws."""

import torch
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from ..rosetta import Dictionary, Generator, UnitModel, unit_map
from ..widgets.rosetta import short, standardised
from ..widgets.views import rounded


@torch.no_grad()
def measure_concepts(
    generator: Generator,
    models: dict[str, UnitModel],
    dictionary: Dictionary,
    latents: tuple[Tensor, ...],
    n_images: int = 3,
    objects: Tensor | None = None,
) -> tuple[list[dict], dict[str, object]]:
    """Entries of the concepts of a dictionary, strongest first, and the drawn images that they show, by name, as PIL.

    Of each concept the strongest unit is shown with its partners, on the `n_images` of the images drawn from `latents` where the
    generator's map is highest; maps are less their mean, in standard deviations over all of these images. objects: each unit's
    correlation with the masks of the drawn objects, [units], where they are known.
    """
    images, own = generator(*latents)
    images = images.clamp(0, 1)
    seen = {generator.name: (generator.units, own)} | {name: (model.units, model(images)) for name, model in models.items()}
    entries, pictures, places = [], {}, {unit: place for place, unit in enumerate(dictionary.units.tolist())}
    for number, group in enumerate(dictionary.concepts()):
        strongest = group[0]
        partners = dict(zip(dictionary.models, dictionary.partners[places[strongest.number]].tolist()))
        maps = {
            name: standardised(unit_map(found, units, (partners | {generator.name: strongest.number})[name]).float().cpu())
            for name, (units, found) in seen.items()
        }
        best = maps[generator.name].flatten(1).amax(1).topk(min(n_images, len(images))).indices.tolist()
        pictures |= {f"drawn_{k}": to_pil_image(images[k].cpu()) for k in best}
        shown = [
            {"model": short(name), "unit": units.names[(partners | {generator.name: strongest.number})[name]],
             "correlation": strongest.correlations.get(name)}
            for name, (units, _) in seen.items()
        ]  # fmt: skip
        entries.append({
            "name": f"concept {number}", "number": number, "units": shown,
            "members": [{"unit": each.unit, "strength": each.strength} for each in group],
            "images": [{"number": f"drawn_{k}", "maps": [rounded(each[k]) for each in maps.values()]} for k in best],
        })  # fmt: skip
        if objects is not None:
            entries[-1]["object"] = objects[strongest.number].item()
    return entries, pictures
