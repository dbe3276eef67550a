"""Training recipe of the CLIP with a ResNet image tower among the viewers. Resumable: run the same command again after a stop.

    python -m interp_utils.sandbox.viewers.train_clip_resnet

The text tower is the trained one of the sandbox CLIP and stays frozen (as in Zhai et al. 2022, "LiT", with the roles of
image and text exchanged); the image tower learns from fresh image-caption pairs by contrast. Images of a batch that have
the same caption share it as positives.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from ...models import load_clip
from .. import clip
from ..captions import caption
from ..train_clip import contrast_loss
from ..training import Checkpoint, arguments, loop, set_rate
from ..weights import save
from .curves import Curve
from .data import training_batch
from .models import BUILDERS

STEPS, SIZE, RATE = 6000, 128, 2e-3
HOLD = 0.5  # share of the run after which the rate falls


def build() -> nn.Module:
    """The CLIP with a random image tower and the sandbox CLIP's frozen text tower and temperature."""
    torch.manual_seed(0)
    model = BUILDERS["clip_resnet"]()
    weights = load_clip("sandbox", device="cpu").model.state_dict()
    text = {name: tensor for name, tensor in weights.items() if "visual" not in name}
    model.load_state_dict(text, strict=False)
    model.requires_grad_(False)
    model.visual.requires_grad_(True).to(memory_format=torch.channels_last)
    return model


def run(out: Path, steps: int = STEPS, size: int = SIZE, every: int = 1000) -> nn.Module:
    """Train, from the checkpoint if there is one, for at most `steps` steps; the model in eval mode."""
    model, tokenize = build(), clip.tokenizer()
    optimizer = torch.optim.AdamW(model.visual.parameters(), lr=RATE, weight_decay=0.05)
    curve = Curve(out / "clip_resnet.csv", size)

    def update(step: int) -> dict[str, float]:
        model.visual.train()
        set_rate(optimizer, RATE, step, steps, warm=100, hold=HOLD)
        pixels, specs = training_batch(step, size)
        rng = np.random.default_rng([step, 3])
        texts, which = np.unique([caption(spec, rng).text for spec in specs], return_inverse=True)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            texts = model.encode_text(tokenize(texts.tolist()), normalize=True)
        with torch.autocast("cpu", torch.bfloat16):
            embeddings = model.visual(pixels)
        loss = contrast_loss(model, embeddings, texts.float(), torch.from_numpy(which))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.visual.parameters(), 1.0)
        optimizer.step()
        return {"loss": loss.item()}

    checkpoint = Checkpoint(out / "clip_resnet.pt", visual=model.visual, optimizer=optimizer, curve=curve)
    loop("clip_resnet", checkpoint, steps, update, lambda step: curve.report(step, model), every, int(HOLD * steps))
    return model.eval()


def main():
    args = arguments(__doc__, STEPS)
    model = run(args.out, args.steps)
    used = model.token_embedding.weight.any(1).nonzero()[:, 0]  # the tokens that captions use; the others have zero rows
    save(model, args.out / "clip_resnet.safetensors", used)


if __name__ == "__main__":
    main()
