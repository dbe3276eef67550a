"""Latents of a generator whose maps match given ones: Rosetta-guided inversion (thesis, eqs. 4.5 to 4.7)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from tqdm.auto import tqdm

from ..matching import Generator, UnitModel
from .guidance import Guidance

Reconstruction = Callable[[Tensor], Tensor]  # images [B, 3, H, W] -> error [B]


@dataclass(frozen=True)
class Inversion:
    """What `invert` found for B latents. history: for each part of the loss its values [steps, B]."""

    latents: tuple[Tensor, ...]  # (z,), (z, c), or (w,) in style space
    images: Tensor  # [B, 3, H, W], in 0..1
    maps: list[Tensor]  # of all layers of the generator, [B, units, h, w]
    scores: Tensor  # [B, P], the term of eq. 4.6 of each pair of all guides
    history: dict[str, Tensor] = field(repr=False)

    @property
    def best(self) -> int:
        """The latent with the lowest loss, among several starts for one target."""
        return self.history["loss"][-1].argmin().item()


def schedule(step: int, steps: int, warm_up: float = 0.05, decay: float = 0.25) -> float:
    """Factor of the learning rate: up from zero, linearly, in the first 5 percent, down to zero as a cosine in the last 25."""
    done = step / steps
    down = min(1.0, (1 - done) / decay) if decay else 1.0
    return (0.5 - 0.5 * math.cos(math.pi * down)) * (min(1.0, done / warm_up) if warm_up else 1.0)


def invert(
    generator: Generator,
    guides: Guidance | Sequence[Guidance],
    latents: tuple[Tensor, ...],
    reconstruction: Reconstruction | None = None,
    alpha: float = 0.1,
    beta: float = 1.0,
    regulariser: str = "l2",
    origin: Tensor | float = 0.0,
    steps: int = 500,
    lr: float = 0.01,
    patience: int | None = None,
    checkpoint: str | Path | None = None,
    progress: bool = True,
) -> Inversion:
    """Minimise L_rec + alpha L_reg - beta L_act over the first latent (thesis, eq. 4.7; without L_rec eq. 4.5), B at a time.

    guides: what the maps shall match; L_act is the mean over all pairs of all of them. An empty list leaves only the
    reconstruction. latents: starts as `generator.sample(B)` gives them; rows do not influence each other, so several starts
    of one target, or B targets, run in one batch. reconstruction: error [B] of images in 0..1. regulariser: "l2" or "l1", the mean
    over coordinates of |z - origin| squared or not. Adam with the thesis's schedule. lr: the thesis takes 0.1 for StyleGAN2 and
    0.01 for BigGAN. patience: stop when the mean loss has not fallen for that many steps. checkpoint: a file that keeps
    the state when the run is stopped, from which the same call goes on; it is deleted at the end. progress: whether to show a bar.
    Raises ValueError for nothing to match, an unknown regulariser, a checkpoint of other starts, steps or rate, or a loss that is
    not finite.
    """
    guides = [guides] if isinstance(guides, Guidance) else list(guides)
    if not guides and reconstruction is None:
        raise ValueError("nothing to match: give at least one Guidance, or a reconstruction error")
    if regulariser not in ("l1", "l2"):
        raise ValueError(f"regulariser must be 'l1' or 'l2', got {regulariser!r}")
    z, *rest = (part.detach().to(generator.device) for part in latents)
    z = z.clone().requires_grad_(True)
    origin = origin.to(z) if isinstance(origin, Tensor) else origin
    optimizer = torch.optim.Adam([z], lr=lr)
    history: dict[str, list[Tensor]] = {}
    path = None if checkpoint is None else Path(checkpoint)
    call = {"start": [part.detach().cpu() for part in latents], "steps": steps, "lr": lr}  # by which a kept state is known again
    if path is not None and path.exists():
        _resume(path, call, z, optimizer, history)

    def losses() -> tuple[dict[str, Tensor], Tensor, list[Tensor], Tensor]:
        images, maps = generator(z, *rest)
        away = z - origin
        found = {"regulariser": (away.square() if regulariser == "l2" else away.abs()).flatten(1).mean(1)}
        scores = torch.cat([guide.scores(maps) for guide in guides], 1) if guides else images.new_zeros(len(z), 0)
        total = alpha * found["regulariser"]
        if guides:
            found["match"] = scores.mean(1)
            total = total - beta * found["match"]
        if reconstruction is not None:
            found["reconstruction"] = reconstruction(images)
            total = total + found["reconstruction"]
        return {"loss": total, **found}, images, maps, scores

    try:
        for step in tqdm(range(len(history.get("loss", [])), steps), desc="inversion", leave=False, disable=not progress):
            found = losses()[0]
            if not found["loss"].isfinite().all():
                raise ValueError(f"the loss is not finite at step {step}; use a lower learning rate than {lr}")
            optimizer.param_groups[0]["lr"] = lr * schedule(step, steps)
            optimizer.zero_grad()
            found["loss"].sum().backward()
            optimizer.step()
            for name, values in found.items():
                history.setdefault(name, []).append(values.detach().cpu())
            if patience and _stalled(history["loss"], patience):
                break
    except BaseException:
        if path is not None and history and z.isfinite().all():
            _keep(path, call, z, optimizer, history)
        raise
    if path is not None:
        path.unlink(missing_ok=True)
    with torch.no_grad():
        found, images, maps, scores = losses()
    for name, values in found.items():
        history.setdefault(name, []).append(values.cpu())
    return Inversion((z.detach(), *rest), images, maps, scores, {name: torch.stack(rows) for name, rows in history.items()})


def _stalled(losses: list[Tensor], patience: int) -> bool:
    mean = [values.mean().item() for values in losses]
    return len(mean) > patience and min(mean[-patience:]) >= min(mean[:-patience])


def _keep(path: Path, call: dict, z: Tensor, optimizer: torch.optim.Adam, history: dict[str, list[Tensor]]) -> None:
    whole = min(map(len, history.values()))  # a stop may come between the parts of a step
    kept = {k: v[:whole] for k, v in history.items()}
    state = {**call, "z": z.detach(), "optimizer": optimizer.state_dict(), "history": kept}
    part = path.with_name(path.name + ".part")
    torch.save(state, part)
    part.replace(path)


def _resume(path: Path, call: dict, z: Tensor, optimizer: torch.optim.Adam, history: dict[str, list[Tensor]]) -> None:
    state = torch.load(path, weights_only=True, map_location="cpu")
    same = len(state["start"]) == len(call["start"]) and all(map(torch.equal, state["start"], call["start"]))
    if not same or (state["steps"], state["lr"]) != (call["steps"], call["lr"]):
        was = f"latents {list(state['z'].shape)}, {state['steps']} steps, rate {state['lr']}"
        raise ValueError(f"{path} keeps another run ({was}, or other starts); delete it or name another file")
    with torch.no_grad():
        z.copy_(state["z"])
    optimizer.load_state_dict(state["optimizer"])
    history.update(state["history"])


class PerceptualDistance:
    """Distance [B] of images in 0..1 from given ones in a network's maps: LPIPS (Zhang et al. 2018) without learned weights.

    At each position the maps of a layer are scaled to unit length over its units; squared differences are added over units and
    averaged over positions and layers. targets: [B, 3, side, side], or one image for all.
    """

    def __init__(self, model: UnitModel, targets: Tensor):
        self.model = model
        with torch.no_grad():
            self.targets = [_unit_length(maps) for maps in model.maps(targets)]

    def __call__(self, images: Tensor) -> Tensor:
        seen = self.model.maps(images.clamp(-0.5, 1.5))  # generators overshoot, and models refuse what looks normalised
        errors = [(_unit_length(ours) - theirs).square().sum(1).mean((1, 2)) for ours, theirs in zip(seen, self.targets)]
        return torch.stack(errors).mean(0)


def _unit_length(maps: Tensor) -> Tensor:
    return maps / (maps.square().sum(1, keepdim=True) + 1e-10).sqrt()
