"""Training recipe of the CLIP with a ResNet image tower of the sandbox zoo. Resumable: run the same command again after a stop.

    python -m interp_utils.sandbox.zoo.train_clip_resnet

The text tower is the trained one of the sandbox CLIP and stays frozen (as in Zhai et al. 2022, "LiT", with the roles of
image and text exchanged); the image tower learns from fresh image-caption pairs by contrast. A caption that is told of
several images of a batch has all of them as its positives, and the other way round.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ...models import load_clip
from ..first import clip as sandbox_clip
from ..first.captions import caption, truth
from ..first.train_clip import contrast_loss
from ..training import Checkpoint, arguments, loop, set_rate
from .data import training_batch
from .models import BUILDERS, save
from .report import zero_shot

STEPS, SIZE, RATE = 1000, 128, 2e-3


def build() -> nn.Module:
    """The CLIP with a random image tower and the sandbox CLIP's frozen text tower and temperature."""
    torch.manual_seed(0)
    model = BUILDERS["clip_resnet"]()
    weights = load_clip("sandbox-first", device="cpu").model.state_dict()
    text = {name: tensor for name, tensor in weights.items() if "visual" not in name}
    model.load_state_dict(text, strict=False)
    model.requires_grad_(False)
    model.visual.requires_grad_(True).to(memory_format=torch.channels_last)
    return model


def run(out: Path, steps: int = STEPS, size: int = SIZE, every: int = 500) -> nn.Module:
    """Train, from the checkpoint if there is one, for at most `steps` steps; the model in eval mode."""
    model, tokenizer = build(), sandbox_clip.tokenizer()
    optimizer = torch.optim.AdamW(model.visual.parameters(), lr=RATE, weight_decay=0.05)

    def update(step: int) -> dict[str, float]:
        model.visual.train()
        set_rate(optimizer, RATE, step, steps, warm=100)
        pixels, specs = training_batch(step, size)
        rng = np.random.default_rng([step, 3])
        captions = [caption(spec, rng) for spec in specs]
        with torch.no_grad():
            texts = model.encode_text(tokenizer([c.text for c in captions]), normalize=True)
        with torch.autocast("cpu", torch.bfloat16):
            embeddings = model.visual(pixels)
        images = F.normalize(embeddings.float(), dim=-1)
        scores = model.logit_scale.exp().clamp(max=60) * texts @ images.T
        loss = contrast_loss(scores, torch.from_numpy(truth(captions, specs, told=True)))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.visual.parameters(), 1.0)
        optimizer.step()
        return {"loss": loss.item()}

    checkpoint = Checkpoint(out / "clip_resnet.pt", visual=model.visual, optimizer=optimizer)
    loop("clip_resnet", checkpoint, steps, update, lambda step: zero_shot(model, tokenizer, 500), every)
    return model.eval()


def main():
    args = arguments(__doc__, STEPS)
    model = run(args.out, args.steps)
    used = model.token_embedding.weight.any(1).nonzero()[:, 0]  # the tokens that captions use; the others have zero rows
    save(model, args.out / "clip_resnet.safetensors", used)
    print(zero_shot(model, sandbox_clip.tokenizer()))


if __name__ == "__main__":
    main()
