"""Training recipe of the known generator: regression onto the pictures that its latents stand for. Resumable.

    python -m interp_utils.sandbox.known.train

No discriminator: the target of a latent is known, so the generator learns the map from z to pixels itself.
1. mapping: the mapping network alone learns, through a linear layer that is thrown away, where objects are (blobs on a 16 x 16
   grid) and the other factors. Without it objects come out much blurrier after as many images.
2. drawing: all of it learns the pictures. Pixels on objects count four times, and so do differences between neighbouring
   pixels, without which eyes, windows and handles stay blurred.
3. finishing: beside the pixels, what the CLIP of another seed sees in each patch shall be the same as in the exact picture. What
   this asks of an image's pixels is scaled to a share of what the regression asks, so that it mends shapes and cannot move them.
What ships is the moving average of the weights, its batch statistics measured on fresh latents.
"""

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.utils import save_image

from ...rosetta.judging.quality import perceptual
from ..training import Checkpoint, arguments, average_into, frozen_copy, loop
from ..weights import save
from .generator import MAPPED, KnownBigGAN
from .latents import KINDS, SIZE, Factors, factors, picture, sample
from .mining import clip_maps

MAPPING_STEPS, MAPPING_SIZE, MAPPING_RATE = 6000, 512, 3e-3
STEPS, SIZE_OF_BATCH, RATE = 24_000, 16, 2e-3
FINISHING_STEPS, FINISHING_RATE, SHARE = 1400, 5e-4, 1.0
FINISHING_CLIP = "sandbox-1"  # neither a model that chapter 4 matches nor one that judges there
AVERAGE_OVER = 10_000  # images over which the moving average halves the past


def mapping_goals(known: Factors) -> tuple[Tensor, Tensor]:
    """What the mapping network learns: blobs where objects are [B, 256], and all factors, scaled to about one [B, 23]."""
    points = (torch.arange(16) + 0.5) * 4
    width = known.sizes[:, None, None] / 3
    x, y = torch.exp(-((points - known.places[..., None]) / width[..., None]).square() / 2).unbind(2)  # [B, 2, 16] each
    blobs = (y[..., :, None] * x[..., None, :] * known.present[..., None, None]).amax(1).flatten(1)
    rest = [known.places.flatten(1) / 20 - 1.6, known.sizes[:, None] / 11 - 2.4, known.present, known.scenes, known.colours]
    return blobs, torch.cat([*rest, known.offsets / 5, known.light[:, None] * 5 - 5], 1)


def drawing_loss(drawn: Tensor, target: Tensor, masks: Tensor) -> Tensor:
    """Weighted absolute error of pixels, of neighbours' differences, and of the picture at three coarser sizes."""
    weight = 1 + 3 * masks.amax(1, keepdim=True)
    error = drawn - target
    loss = (weight * error.abs()).mean()
    loss = loss + (weight[..., 1:] * error.diff(dim=3).abs()).mean() + (weight[..., 1:, :] * error.diff(dim=2).abs()).mean()
    for _ in range(3):
        error = F.avg_pool2d(error, 2)
        loss = loss + 0.5 * error.abs().mean()
    return loss


def train_mapping(net: KnownBigGAN, out: Path, steps: int) -> None:
    blobs, rest = mapping_goals(factors(sample(2)))
    head = nn.Linear(MAPPED, blobs.shape[1] + rest.shape[1])
    optimizer = torch.optim.Adam([*net.mapping.parameters(), *head.parameters()])

    def update(step: int) -> dict[str, float]:
        optimizer.param_groups[0]["lr"] = MAPPING_RATE * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        z = sample(MAPPING_SIZE)
        blobs, rest = mapping_goals(factors(z))
        found, other = head(net.mapping(z)).split([blobs.shape[1], rest.shape[1]], 1)
        losses = (found - blobs).square().mean(), (other - rest).square().mean()
        optimizer.zero_grad()
        (4 * losses[0] + losses[1]).backward()
        optimizer.step()
        return {"blobs": losses[0].item() / blobs.var().item(), "rest": losses[1].item() / rest.var(0).mean().item()}

    loop("mapping", Checkpoint(out / "mapping.pt", mapping=net.mapping, head=head, optimizer=optimizer), steps, update)


def train_drawing(net: KnownBigGAN, out: Path, steps: int, size: int = SIZE_OF_BATCH) -> nn.Module:
    """Train from the checkpoint if there is one; the averaged generator, ready for use."""
    net.to(memory_format=torch.channels_last).train()
    average = frozen_copy(net)
    others = [p for name, p in net.named_parameters() if not name.startswith("mapping")]
    optimizer = torch.optim.Adam([{"params": others}, {"params": net.mapping.parameters()}], betas=(0.9, 0.99))

    def update(step: int) -> dict[str, float]:
        rate = RATE * min(1, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        for group, scale in zip(optimizer.param_groups, (1, 0.1)):
            group["lr"] = rate * scale
        z, kinds = sample(size), torch.randint(len(KINDS), (size,))
        target, masks = picture(factors(z), kinds)
        with torch.autocast("cpu", torch.bfloat16):
            drawn = net(z, F.one_hot(kinds, len(KINDS)).float())
        loss = drawing_loss((drawn + 1) / 2, target, masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        average_into(average, net, 0.5 ** (size / min(AVERAGE_OVER, max(size, 0.05 * step * size))))
        return {"loss": loss.item()}

    def report(step: int) -> dict[str, float]:
        return quality(settle(average), out / f"drawing_{step:05d}.png")

    checkpoint = Checkpoint(out / "drawing.pt", net=net, average=average, optimizer=optimizer)
    loop("drawing", checkpoint, steps, update, report, every=1000)
    return settle(average)


def train_finishing(net: KnownBigGAN, out: Path, steps: int, size: int = SIZE_OF_BATCH, device: str = "cpu") -> nn.Module:
    """Train the drawing generator on, beside a perceptual distance; from the checkpoint if there is one; ready for use."""
    net.to(device, memory_format=torch.channels_last).train()
    average, distance = frozen_copy(net), perceptual(clip_maps(FINISHING_CLIP, device))
    optimizer = torch.optim.Adam([p for name, p in net.named_parameters() if not name.startswith("mapping")], betas=(0.9, 0.99))

    def update(step: int) -> dict[str, float]:
        optimizer.param_groups[0]["lr"] = FINISHING_RATE * min(1, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        z, kinds = sample(size).to(device), torch.randint(len(KINDS), (size,)).to(device)
        target, masks = picture(factors(z), kinds)
        with torch.autocast(target.device.type, torch.bfloat16):
            drawn = (net(z, F.one_hot(kinds, len(KINDS)).float()) + 1) / 2
        shown = drawn.detach().float().requires_grad_()
        loss = drawing_loss(shown, target, masks)
        with torch.autocast(target.device.type, torch.bfloat16):
            seen = distance(shown, target).mean()
        by_pixels, by_sight = (torch.autograd.grad(each, shown)[0] for each in (loss, seen))
        scale = SHARE * by_pixels.flatten(1).norm(dim=1) / by_sight.flatten(1).norm(dim=1).clamp(min=1e-12)
        optimizer.zero_grad()
        drawn.backward((by_pixels + scale[:, None, None, None] * by_sight).to(drawn.dtype))
        optimizer.step()
        average_into(average, net, 0.5 ** (size / AVERAGE_OVER))
        return {"loss": loss.item(), "seen": seen.item()}

    def report(step: int) -> dict[str, float]:
        return quality(settle(average), out / f"finishing_{step:05d}.png")

    checkpoint = Checkpoint(out / "finishing.pt", net=net, average=average, optimizer=optimizer)
    loop("finishing", checkpoint, steps, update, report, every=500)
    return settle(average)


@torch.no_grad()
def settle(average: nn.Module, batches: int = 10) -> nn.Module:
    """A copy of the averaged generator, ready for use: its batch statistics measured on fresh latents."""
    torch.manual_seed(0)
    ready = frozen_copy(average).cpu()
    for module in ready.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # a plain mean over the batches
    ready.train()
    for _ in range(batches):
        ready(sample(64), F.one_hot(torch.randint(len(KINDS), (64,)), len(KINDS)).float())
    return ready.eval()


@torch.no_grad()
def quality(generator: nn.Module, sheet: Path | None = None, n: int = 100) -> dict[str, float]:
    """Peak signal to noise, in dB, of drawn against exact pictures: over whole pictures and on their objects alone."""
    z, kinds = sample(n, torch.Generator().manual_seed(5)), torch.arange(n) % len(KINDS)
    target, masks = picture(factors(z), kinds)
    drawn = ((generator(z, F.one_hot(kinds, len(KINDS)).float()) + 1) / 2).clamp(0, 1)
    error, inside = (drawn - target).square(), masks.amax(1, keepdim=True) > 0.5
    if sheet is not None:
        rows = torch.stack([each[:40].unflatten(0, (4, 10)) for each in (target, drawn)], 1).flatten(0, 2)
        save_image(F.interpolate(rows, size=2 * SIZE), sheet, nrow=10)
    on_objects = (error * inside).sum() / (3 * inside.sum())
    return {"psnr": -10 * error.mean((1, 2, 3)).log10().mean().item(), "on objects": -10 * on_objects.log10().item()}


def main():
    args = arguments(__doc__, STEPS)
    torch.manual_seed(0)
    net = KnownBigGAN()
    train_mapping(net, args.out, min(args.steps, MAPPING_STEPS))
    generator = train_drawing(net, args.out, args.steps)
    generator = train_finishing(generator.requires_grad_(), args.out, min(args.steps, FINISHING_STEPS))
    save(generator, args.out / "known_big_gan.safetensors")
    print(quality(generator))


if __name__ == "__main__":
    main()
