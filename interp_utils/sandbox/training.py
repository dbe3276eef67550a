"""What the recipes of small models share: checkpoints that lose nothing, a learning rate, averaged copies of a model."""

import argparse
import copy
import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn


class Checkpoint:
    """The state of a training run in one file, written whole or not at all.

    parts: everything with a state_dict (models, optimizers). `loop` seeds torch at each step, so that a run which was stopped
    goes on exactly as if it had not been.
    """

    every_seconds = 180

    def __init__(self, path: Path, **parts):
        self.path, self.parts = path, parts
        self.saved = time.time()

    def resume(self) -> int:
        """Load the file if there is one; the number of steps done."""
        if not self.path.exists():
            return 0
        state = torch.load(self.path, weights_only=True)
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        return state["step"]

    def save(self, step: int, force: bool = False) -> None:
        """Write the file if the last time was long ago."""
        if not force and time.time() - self.saved < self.every_seconds:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        torch.save({**{name: part.state_dict() for name, part in self.parts.items()}, "step": step}, part)
        part.replace(self.path)
        self.saved = time.time()


def loop(
    name: str, checkpoint: Checkpoint, steps: int, update: Callable, report: Callable | None = None, every: int = 500, keep: int = 0
) -> None:
    """Call update(step), which returns numbers to print, from the checkpoint's step to `steps`; report now and then.

    keep: the step (of a rate that falls only afterwards) after which the checkpoint is also kept as NAME.held.pt; a longer run can
    go on from a copy of it. Random numbers of a step depend on the step alone. Raises RuntimeError when a number is not finite.
    """
    start, began = checkpoint.resume(), time.time()
    for step in range(start, steps):
        torch.manual_seed(step)
        log = update(step)
        if not all(math.isfinite(value) for value in log.values()):
            raise RuntimeError(f"{name} diverged at step {step}: {log}; delete {checkpoint.path} and use a lower learning rate")
        if (step + 1) % 50 == 0:
            pace = (time.time() - began) / (step + 1 - start)
            print(f"{name} {step + 1}/{steps}", *(f"{k} {v:.3f}" for k, v in log.items()), f"{pace:.2f} s/step", flush=True)
        if report and (step + 1) % every == 0:
            print(name, step + 1, report(step + 1), flush=True)
        checkpoint.save(step + 1, force=step + 1 in (keep, steps))
        if step + 1 == keep:
            shutil.copy(checkpoint.path, checkpoint.path.with_suffix(".held.pt"))


def arguments(doc: str, steps: int, gpu: bool = False, **choices) -> argparse.Namespace:
    """What every recipe takes on its command line, after it has set up torch for one core. gpu: can it use one?"""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, options in choices.items():
        parser.add_argument(name, choices=options)
    parser.add_argument("--out", type=Path, default=Path("build/models"), help="checkpoints and finished weights")
    parser.add_argument("--steps", type=int, default=steps)
    if gpu:
        parser.add_argument("--device", default="cpu", help="cuda: larger batches, of a stock of images that is drawn first")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    return args


def set_rate(optimizer, peak: float, step: int, steps: int, warm: int = 0, hold: float = 0.0) -> None:
    """Linear warm-up over `warm` steps, `peak` until the share `hold` of the run, then linear decay to zero."""
    rate = peak * min(1.0, (step + 1) / (warm + 1)) * min(1.0, (1 - step / steps) / (1 - hold))
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("lr_scale", 1.0)


def frozen_copy(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model).requires_grad_(False)


@torch.no_grad()
def average_into(target: nn.Module, source: nn.Module, keep: float) -> None:
    """Exponential moving average of weights. Buffers stay: batch statistics must be those of the average itself."""
    for a, b in zip(target.parameters(), source.parameters()):
        a.lerp_(b, 1 - keep)
