"""Chapter 4 with the thesis's own generators and photographs: hours of a GPU, for people who have one."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from ..editing import Guidance, Inversion, invert, matched_pairs
from ..matching import Generator, UnitModel, match, style_space
from .experiments import Results, inversion_table
from .quality import lpips


def by_style(generator: Generator) -> Generator:
    """StyleGAN-XL drawn from one style w [B, d], the same in all layers: its latents are (w,). Not truncated."""

    def drawn(model, w: Tensor) -> Tensor:
        return model.synthesis(w[:, None].expand(-1, model.mapping.n_styles, -1))

    return style_space(generator, lambda model, z, c: model.mapping(z, c)[:, 0], drawn)


def led_by_photographs(
    generator: Generator, models: Sequence[UnitModel], photographs: Tensor, n_mined: int = 1600, batch_size: int = 8, **options
) -> Inversion:
    """A generator led by photographs of what it never draws, through best buddies alone (figures 4.4 and 4.5).

    photographs: [B, 3, H, W] in 0..1; n_mined: drawn images on which units are matched. options: those of `invert`; the thesis
    takes lr 0.1 and 500 steps for StyleGAN2.
    """
    models = list(models)
    matches = match(generator, models, generator.sample(n_mined), batch_size)
    guides = [Guidance(matched_pairs(found), seeing(photographs), "instance") for found, seeing in zip(matches, models)]
    return invert(generator, guides, generator.sample(len(photographs), seed=52), **options)


def inversion_of_photographs(
    generator: Generator,
    models: dict[str, UnitModel],
    untrained: dict[str, UnitModel],
    photographs: Tensor,
    kinds: Tensor,
    n_mined: int = 1600,
    steps: Sequence[int] = (300, 1000),
    distance=lpips,
    finished: str | Path | None = None,
    batch_size: int = 8,
) -> Results:
    """Table 4.1 with StyleGAN-XL: "loss, steps" -> PSNR, SSIM and LPIPS of each photograph, beside untrained partners.

    models: the first one's maps are compared by the perceptual loss (the thesis takes VGG-16's); each guides in a row of its own,
    and all in one. photographs: [N, 3, 256, 256] in 0..1; kinds: their ImageNet classes, int [N], which the thesis lets DeiT guess.
    Starts are the mean styles of the classes; Adam with a rate of 0.1, as StyleGAN-XL's own inversion. finished: see
    `inversion_table`.
    """
    styles = by_style(generator)
    both = {**models, **{f"untrained {name}": model for name, model in untrained.items()}}
    matches = match(styles, list(both.values()), styles.sample(n_mined), batch_size)
    paired = {name: (model, matched_pairs(found)) for (name, model), found in zip(both.items(), matches)}
    guided = {"perceptual loss": [], **{f"+ {name}": [paired[name]] for name in models}}
    guided |= {"+ all": [paired[name] for name in models], "+ all, untrained": [paired[f"untrained {name}"] for name in untrained]}
    start, seen_by = generator.model.mapping.w_avg[kinds].cpu(), next(iter(models.values()))
    table: Results = {}
    for n in steps:
        rows = {f"{name}, {n} steps": pairs for name, pairs in guided.items() if pairs or name == "perceptual loss"}
        options = {"steps": n, "lr": 0.1, "origin": start.mean(0).to(generator.device), "finished": finished}
        table |= inversion_table(styles, rows, photographs, (start,), seen_by, distance, batch_size, **options)
    return table
