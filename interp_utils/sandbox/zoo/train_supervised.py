"""Training recipe of the class-supervised ResNet of the sandbox zoo. Resumable: run the same command again after a stop.

    python -m interp_utils.sandbox.zoo.train_supervised

It learns to name the object among 32, on fresh images of the distribution that the sandbox CLIP saw, those with one kind
of object.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from ..first.tasks import HIDDEN
from ..training import Checkpoint, arguments, loop, set_rate
from .data import object_labels, training_batch
from .models import BUILDERS, save
from .report import linear_probe

STEPS, SIZE, RATE = 700, 96, 2e-3


def run(out: Path, steps: int = STEPS, size: int = SIZE, every: int = 500) -> nn.Module:
    """Train, from the checkpoint if there is one, for at most `steps` steps; the model in eval mode."""
    torch.manual_seed(0)
    model = BUILDERS["resnet"]().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.05)

    def update(step: int) -> dict[str, float]:
        model.train()
        set_rate(optimizer, RATE, step, steps, warm=100)
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

    checkpoint = Checkpoint(out / "resnet.pt", model=model, optimizer=optimizer)
    loop("resnet", checkpoint, steps, update, lambda step: linear_probe(model, 1500, 500, ("object", "scene")), every)
    return model.eval()


def main():
    args = arguments(__doc__, STEPS)
    model = run(args.out, args.steps)
    save(model, args.out / "resnet.safetensors")
    print(linear_probe(model))


if __name__ == "__main__":
    main()
