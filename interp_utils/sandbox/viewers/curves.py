"""How well linear probes do while a viewer learns, kept as a table."""

import time
from pathlib import Path

from torch import nn

from .probes import probe

FACTORS = ("object", "scene", "colour")


class Curve:
    """Appends a row of probe accuracies to a CSV file at each report, beside the images seen and the processor minutes spent.

    It is part of a checkpoint, so that the minutes of a run that was stopped and went on add up.
    """

    def __init__(self, path: Path, size: int):
        self.path, self.size = path, size
        self.before, self.began = 0.0, time.process_time()

    @property
    def minutes(self) -> float:
        return self.before + (time.process_time() - self.began) / 60

    def state_dict(self) -> dict[str, float]:
        return {"minutes": self.minutes}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.before, self.began = state["minutes"], time.process_time()

    def report(self, step: int, model: nn.Module) -> dict[str, float]:
        """Probe the model after `step` steps, on 3,000 training and 1,000 test images; the accuracies."""
        minutes = self.minutes  # the probes themselves do not count
        found = probe(model, 3000, 1000, FACTORS)
        if not self.path.exists():
            self.path.write_text(",".join(["images", "minutes", *found]) + "\n")
        with self.path.open("a") as file:
            file.write(",".join([str(step * self.size), f"{minutes:.1f}", *(f"{share:.3f}" for share in found.values())]) + "\n")
        self.before, self.began = minutes, time.process_time()
        return found
