"""Training recipe of the class-supervised ResNet among the viewers. Resumable: run the same command again after a stop.

    python -m interp_utils.sandbox.viewers.train_supervised

It learns to name the object among 144, on fresh images of the distribution that the sandbox CLIP saw, those with one kind
of object.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from ..tasks import HIDDEN
from ..training import Checkpoint, arguments, loop, set_rate
from ..weights import save
from .curves import Curve
from .data import object_labels, training_batch
from .models import BUILDERS

STEPS, SIZE, RATE = 1500, 128, 2e-3
HOLD = 0.5  # share of the run after which the rate falls


def run(out: Path, steps: int = STEPS, size: int = SIZE, every: int = 500) -> nn.Module:
    """Train, from the checkpoint if there is one, for at most `steps` steps; the model in eval mode."""
    torch.manual_seed(0)
    model = BUILDERS["resnet"]().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.05)
    curve = Curve(out / "resnet.csv", size)

    def update(step: int) -> dict[str, float]:
        model.train()
        set_rate(optimizer, RATE, step, steps, warm=100, hold=HOLD)
        pixels, specs = training_batch(step, size)
        label = object_labels(specs)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(pixels)
        loss = F.cross_entropy(logits.float(), label, ignore_index=HIDDEN, label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        right = (logits.argmax(1) == label)[label != HIDDEN]
        return {"loss": loss.item(), "accuracy": right.float().mean().item()}

    checkpoint = Checkpoint(out / "resnet.pt", model=model, optimizer=optimizer, curve=curve)
    loop("resnet", checkpoint, steps, update, lambda step: curve.report(step, model), every, int(HOLD * steps))
    return model.eval()


def main():
    args = arguments(__doc__, STEPS)
    model = run(args.out, args.steps)
    save(model, args.out / "resnet.safetensors")


if __name__ == "__main__":
    main()
