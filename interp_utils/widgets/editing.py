"""The editor of chapter 4: change what a generator draws through the units that it shares with other models."""

from functools import lru_cache, partial

import ipywidgets
import torch
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from .. import plots
from ..rosetta import Correlation, Dictionary, Generator, Match, copy_paste, edit, own_pairs, set_units, shift, unit_map, zoom
from .base import Explorer, counted
from .views import BeforeAfter, encoded, rounded

MOVES = {
    "shift right": shift(0.25), "shift left": shift(-0.25), "shift down": shift(down=0.25), "shift up": shift(down=-0.25),
    "zoom in": zoom(2), "copy and paste": copy_paste(),
}  # fmt: skip
ON_CONCEPT = {"remove": "minimum", "strengthen": 3.0}
ALL = "all concepts"
STEPS, SKETCH = 40, 6  # of an edit, and of its first picture


def draw_edit(
    generator: Generator,
    own: Match | Correlation,
    dictionary: Dictionary,
    latents: tuple[Tensor, ...],
    what: str,
    concept: int | None,
    image: int,
    steps: int = STEPS,
) -> tuple[plots.Picture, str]:
    """One drawn image before and after an edit, with the map of a unit before, as asked for, and after; with a sentence.

    own: the generator's correlation with itself; latents: what draws the images; what: one of MOVES or ON_CONCEPT;
    concept: whose units are edited, None for all Rosetta units. Copy and paste starts from another latent, as in the thesis.
    Raises ValueError for an unknown edit, IndexError for a concept or an image that is not there.
    """
    images, maps, sentence = _edited(generator, own, dictionary, latents, what, concept, image, steps)
    return plots.edit_row(images, list(maps.values()), ["before", "after", *maps]), sentence


def _edited(generator, own, dictionary, latents, what, concept, image, steps=STEPS) -> tuple[list[Tensor], dict[str, Tensor], str]:
    """What `draw_edit` shows: the images before and after, the maps by name, the sentence."""
    if what not in MOVES and what not in ON_CONCEPT:
        raise ValueError(f"unknown edit {what!r}; choose one of {', '.join([*MOVES, *ON_CONCEPT])}")
    concepts = dictionary.concepts()
    if not 0 <= image < len(latents[0]) or (concept is not None and not 0 <= concept < len(concepts)):
        raise IndexError(f"no image {image} or concept {concept}: there are {len(latents[0])} images and {len(concepts)} concepts")
    entries = concepts[concept] if concept is not None else [entry for each in concepts for entry in each]
    numbers = [entry.number for entry in entries]
    change = MOVES.get(what) or set_units(generator.units, numbers, ON_CONCEPT[what])
    latent = tuple(part[image : image + 1] for part in latents)
    start = (generator.sample(1, seed=image)[0], *latent[1:]) if what == "copy and paste" else None
    done = edit(generator, own_pairs(own, torch.tensor(numbers)), latent, change, start, steps=steps, lr=0.05, progress=False)
    with torch.no_grad():
        _, first = generator(*latent)
    stages = {f"{entries[0].unit} before": first, "asked for": done.targets, "after": done.result.maps}
    maps = {name: unit_map(each, generator.units, numbers[0])[0].cpu() for name, each in stages.items()}
    left = -2 * done.result.history["match"].mean(1)
    of = ALL if concept is None else f"concept {concept}"
    said = f"squared distance from the edited maps {left[0]:.2f} before, {left[-1]:.2f} after"
    return [done.before[0].cpu(), done.after[0].cpu()], maps, f"{what}, {of}, {counted(len(numbers), 'unit')}: {said}"


def edit_explorer(generator: Generator, own: Match | Correlation, dictionary: Dictionary, latents: tuple[Tensor, ...]) -> Explorer:
    """Pick an edit, the concept to edit, and an image; wipe from before to after.

    An edit is an optimisation: a browser shows a sketch of a few steps first, and the whole edit once the reader rests.
    """
    concepts = dictionary.concepts()
    if not concepts:
        raise ValueError("the dictionary is empty: no unit has a partner in every model; mine more images or raise k")

    @lru_cache(2)  # one edit is both drawn and shown
    def edited(steps: int, what: str, concept: int | str, image: int):
        return _edited(generator, own, dictionary, latents, what, None if concept == ALL else concept, image, steps)

    def draw(**values) -> tuple[plots.Picture, str]:
        images, maps, sentence = edited(STEPS, **values)
        return plots.edit_row(images, list(maps.values()), ["before", "after", *maps]), sentence

    wipe = BeforeAfter()

    def show(steps: int, **values) -> str:
        images, maps, sentence = edited(steps, **values)
        with wipe.hold_sync():
            wipe.before, wipe.after = (encoded(to_pil_image(image.clamp(0, 1))) for image in images)
            wipe.alt = f"image {values['image']}, {values['what']}"
            wipe.maps = [{"name": name, "map": rounded(each.float())} for name, each in maps.items()]
        return sentence if steps == STEPS else f"{sentence}; a sketch, the whole edit follows"

    names = [(ALL, ALL), *((f"concept {k}: {each[0].unit}", k) for k, each in enumerate(concepts))]
    style = {"style": {"description_width": "60px"}}
    return Explorer(
        draw,
        [wipe],
        partial(show, SKETCH),
        {"unit": {each.number: {"concept": k} for k, group in enumerate(concepts) for each in group}},
        partial(show, STEPS),
        what=ipywidgets.Dropdown(options=[*MOVES, *ON_CONCEPT], value="shift right", description="edit", **style),
        concept=ipywidgets.Dropdown(options=names, value=ALL, description="units", **style),
        image=ipywidgets.Dropdown(options=[(f"image {k}", k) for k in range(len(latents[0]))], description="image", **style),
    )
