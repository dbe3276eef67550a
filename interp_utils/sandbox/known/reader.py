"""A network that reads off pictures what their latents stood for: the judge of what becomes of drawn images. Resumable.

    python -m interp_utils.sandbox.known.reader

It learns from exact pictures alone, blurred more or less as a generator's may be. It never sees a generator's picture, guides
nothing and takes no part in any dictionary.
"""

from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.transforms.functional import gaussian_blur

from ...models import DATA
from ..training import Checkpoint, arguments, loop, set_rate
from ..weights import save
from .generator import single
from .latents import COLOURS, KINDS, SCENES, factors, picture, sample

CHANNELS = (16, 32, 64, 96)  # at 64, 32, 16 and 8 pixels
HEADS = {"object": len(KINDS), "scene": len(SCENES), "colour": len(COLOURS), "count": 3}
STEPS, SIZE = 1500, 32
BLUR = 1.5  # pixels of the strongest blur


class Reading(NamedTuple):
    """What is read off B images in 0..1."""

    masks: Tensor  # [B, 64, 64], probability that an object covers a pixel
    object: Tensor  # [B, kinds] probabilities, and so on
    scene: Tensor
    colour: Tensor
    count: Tensor  # [B, 3]: none, one or two


def _conv(c_in: int, c_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, 3, padding=1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU(),
        nn.Conv2d(c_out, c_out, 3, padding=1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU(),
    )  # fmt: skip


class Reader(nn.Module):
    """A small U-Net (Ronneberger et al. 2015) with a linear layer for each factor on its coarsest maps."""

    def __init__(self):
        super().__init__()
        self.down = nn.ModuleList(_conv(a, b) for a, b in zip((3, *CHANNELS), CHANNELS))
        pairs = list(zip(CHANNELS, CHANNELS[1:]))[::-1]
        self.up = nn.ModuleList(_conv(small + large, small) for small, large in pairs)
        self.mask = nn.Conv2d(CHANNELS[0], 1, 1)
        self.heads = nn.ModuleDict({name: nn.Linear(2 * CHANNELS[-1], n) for name, n in HEADS.items()})

    def forward(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """images [B, 3, 64, 64] in 0..1 -> logits of the mask [B, 64, 64] and of each factor."""
        x, kept = 2 * images - 1, []
        for k, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if k else x)
            kept.append(x)
        pooled = torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1)
        for block, skip in zip(self.up, kept[-2::-1]):
            x = block(torch.cat([F.interpolate(x, scale_factor=2), skip], 1))
        return self.mask(x)[:, 0], {name: head(pooled) for name, head in self.heads.items()}

    @torch.no_grad()
    def read(self, images: Tensor) -> Reading:
        """The same as probabilities; images beyond 0..1 are cut off."""
        parts = [self(part) for part in images.detach().cpu().float().clamp(0, 1).split(100)]
        found = {name: torch.cat([heads[name] for _, heads in parts]).softmax(1) for name in HEADS}
        return Reading(torch.cat([mask for mask, _ in parts]).sigmoid(), **found)


def load_reader(path: str | Path = DATA / "sandbox" / "known_reader.safetensors") -> Reader:
    """The reader that ships with the course, frozen and in eval mode. Raises FileNotFoundError where there is no file."""
    if not Path(path).exists():
        raise FileNotFoundError(f"no weights of the reader at {path}; train it with: python -m interp_utils.sandbox.known.reader")
    reader = Reader()
    reader.load_state_dict(single(load_file(path)))
    return reader.float().eval().requires_grad_(False)


def examples(n: int) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Blurred exact pictures [n, 3, 64, 64], their masks [n, 64, 64], and the target distribution of each factor."""
    known, kinds = factors(sample(n)), torch.randint(len(KINDS), (n,))
    image, masks = picture(known, kinds)
    widths = 0.05 + BLUR * torch.rand(4)
    image = torch.cat([gaussian_blur(part, 7, [width.item()] * 2) for part, width in zip(image.chunk(4), widths)])
    image = (image + 0.02 * torch.randn_like(image)).clamp(0, 1)
    count = F.one_hot((known.present > 0.5).sum(1), 3).float()
    there = known.present.amax(1)[:, None]  # an object that is not there has no kind and no colour: nothing is learned of it
    goals = {"object": F.one_hot(kinds, len(KINDS)) * there, "scene": known.scenes, "colour": known.colours * there, "count": count}
    return image, masks.amax(1), goals


def train(out: Path, steps: int = STEPS, size: int = SIZE) -> Reader:
    """Train from the checkpoint if there is one."""
    torch.manual_seed(0)
    reader = Reader().to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(reader.parameters(), weight_decay=1e-4)

    def update(step: int) -> dict[str, float]:
        set_rate(optimizer, 2e-3, step, steps, warm=50, hold=0.3)
        image, masks, goals = examples(size)
        with torch.autocast("cpu", torch.bfloat16):
            mask, heads = reader(image.contiguous(memory_format=torch.channels_last))
        losses = {name: F.cross_entropy(heads[name].float(), goal) for name, goal in goals.items()}
        losses["mask"] = 4 * F.binary_cross_entropy_with_logits(mask.float(), masks)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        return {name: loss.item() for name, loss in losses.items()}

    loop("reader", Checkpoint(out / "reader.pt", net=reader, optimizer=optimizer), steps, update)
    return reader.eval().requires_grad_(False)


def main():
    args = arguments(__doc__, STEPS)
    save(train(args.out, args.steps), args.out / "known_reader.safetensors")


if __name__ == "__main__":
    main()
