"""Table 4.1 and the edits of figures 4.7 and 4.8 on many images, measured. A generator is optimised for each: minutes to hours."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm.auto import tqdm

from ..editing import Change, Guidance, Pairs, PerceptualDistance, edit, invert
from ..matching import Generator, UnitModel
from .quality import image_quality

Results = dict[str, dict[str, Tensor]]  # condition -> measure -> value of each image


def inversion_table(
    generator: Generator,
    guided_by: dict[str, list[tuple[UnitModel, Pairs]]],
    images: Tensor,
    start: tuple[Tensor, ...],
    seen_by: UnitModel,
    distance: Callable[[Tensor, Tensor], Tensor],
    batch_size: int = 25,
    form: str = "instance",
    finished: str | Path | None = None,
    **options,
) -> Results:
    """Quality of inversions of the same images from the same starts under several guidances (thesis, table 4.1).

    guided_by: name -> models with their pairs, an empty list for the perceptual loss alone; images: [N, 3, H, W] in 0..1; start:
    latents of N rows; seen_by: whose maps the perceptual loss compares; distance: the judge, another network than that; form: see
    `Guidance`. What guidance gains is known only beside its controls: pairs of untrained partners, and the loss alone for more
    steps, in a call of its own. finished: a file that keeps each batch as it is done, so that a stopped run goes on from there;
    delete it when anything but the end of the run has changed. options: those of `invert`. Gives PSNR, SSIM and distance of each
    image.
    """
    found: Results = {name: {} for name in guided_by}
    done = Done(finished)
    for rows in tqdm(torch.arange(len(images)).split(batch_size), desc="images"):
        targets, latents = images[rows].to(generator.device), tuple(part[rows] for part in start)
        loss = PerceptualDistance(seen_by, targets)

        def quality(models, targets=targets, latents=latents, loss=loss) -> dict[str, Tensor]:
            guides = [Guidance(pairs, model(targets), form) for model, pairs in models]
            return image_quality(invert(generator, guides, latents, loss, **options).images, targets, distance)

        for name, models in guided_by.items():
            for measure, values in done(f"{name}, {form}, from {rows[0]}", partial(quality, models)).items():
                found[name].setdefault(measure, []).append(values)
    return {name: {measure: torch.cat(parts) for measure, parts in measures.items()} for name, measures in found.items()}


class Done:
    """Runs parts of a long computation once, and keeps what they gave in a file if there is one."""

    def __init__(self, path: str | Path | None):
        self.path = None if path is None else Path(path)
        self.results = load_results(self.path) if self.path is not None and self.path.exists() else {}

    def __call__(self, name: str, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        if name not in self.results:
            self.results[name] = {measure: values.detach().cpu() for measure, values in compute().items()}
            if self.path is not None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                part = self.path.with_name(self.path.name + ".part")
                save_results(self.results, part)
                part.replace(self.path)
        return self.results[name]


def edit_table(
    generator: Generator,
    pairs: dict[str, Pairs],
    latents: tuple[Tensor, ...],
    changes: dict[str, Change],
    judged: Callable[[Tensor], dict[str, Tensor]],
    pixels: bool = False,
    form: str = "distance",
    finished: str | Path | None = None,
    **options,
) -> Results:
    """What edits did to drawn images, for several sets of units: "edit, units" -> measure -> [B].

    pairs: name -> units (`own_pairs`); changes: name -> change of maps; judged: of the images that the latents draw. pixels: also
    without any unit, where the image itself is changed in the same way and its pixels are what the latent has to match. form:
    see `Guidance`; finished: as for `inversion_table`; options: those of `edit`.
    """

    def by_units(chosen: Pairs, change: Change) -> dict[str, Tensor]:
        return judged(edit(generator, chosen, latents, change, form=form, **options).after.cpu())

    def by_pixels(change: Change) -> dict[str, Tensor]:
        with torch.no_grad():
            drawn = generator(*latents)[0]
        (target,) = change([drawn])

        def error(images: Tensor) -> Tensor:  # in units of the pixels' variance, as maps are compared
            return 0.5 * (images - target).square().mean((1, 2, 3)) / drawn.var()

        return judged(invert(generator, [], latents, error, origin=latents[0].to(generator.device), **options).images.cpu())

    found, done = {}, Done(finished)
    for name, change in tqdm(changes.items(), desc="edits"):
        ways = {units: partial(by_units, chosen, change) for units, chosen in pairs.items()}
        if pixels:
            ways["pixels"] = partial(by_pixels, change)
        for way, run in ways.items():
            found[f"{name}, {way}"] = done(f"{name}, {way}", run)
    return found


def save_results(results: Results, path: str | Path) -> None:
    """Write results as safetensors."""
    columns = {f"{name}|{measure}": values for name, row in results.items() for measure, values in row.items()}
    save_file({key: values.clone() for key, values in columns.items()}, path)  # safetensors refuses views of one tensor


def load_results(path: str | Path) -> Results:
    """What `save_results` wrote. Raises FileNotFoundError with what to do where there is none."""
    if not Path(path).exists():
        raise FileNotFoundError(f"no saved results at {path}; those of this course are restored with: git checkout -- data")
    found: Results = {}
    for key, values in load_file(path).items():
        name, measure = key.split("|")
        found.setdefault(name, {})[measure] = values
    return found
