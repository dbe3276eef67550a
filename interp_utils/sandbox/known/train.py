"""Training recipe of the known generator: regression onto the pictures that its latents stand for. Resumable.

    python -m interp_utils.sandbox.known.train

No discriminator: the target of a latent is known, so the generator learns the map from z to pixels itself.
1. mapping: the mapping network alone learns, through a linear layer that is thrown away, where objects are (blobs on a 16 x 16
   grid) and the other factors. Without it objects come out much blurrier after as many images.
2. drawing: all of it learns the pictures. Pixels on objects count four times, and so do differences between neighbouring
   pixels, without which eyes, windows and handles stay blurred.
3. finishing: the same beside a critic that tells drawn from exact pictures of the class. What it asks of each pixel is scaled to a
   fixed share of what the regression asks, so that it sharpens shapes and cannot move them.
What ships is the moving average of the weights, its batch statistics measured on fresh latents.
"""

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from torchvision.utils import save_image

from ..zoo.models import save
from ..zoo.training import Checkpoint, arguments, average_into, frozen_copy, loop
from .generator import MAPPED, KnownBigGAN
from .latents import KINDS, SIZE, Factors, factors, picture, sample

MAPPING_STEPS, MAPPING_SIZE, MAPPING_RATE = 6000, 512, 3e-3
STEPS, SIZE_OF_BATCH, RATE = 24_000, 16, 2e-3
FINISHING_STEPS, FINISHING_SIZE, FINISHING_RATE, SHARE = 6000, 64, 1e-3, 0.3
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


class Critic(nn.Module):
    """Images [B, 3, 64, 64] in 0..1 and one-hot classes -> a score each, high for exact pictures (Miyato & Koyama 2018)."""

    def __init__(self, channels: tuple[int, ...] = (32, 64, 128, 256)):
        super().__init__()
        layers = []
        for a, b in zip((3, *channels), channels):
            layers += [
                spectral_norm(nn.Conv2d(a, b, 4, 2, 1)),
                nn.LeakyReLU(0.2),
                spectral_norm(nn.Conv2d(b, b, 3, 1, 1)),
                nn.LeakyReLU(0.2),
            ]
        self.layers = nn.Sequential(*layers)
        self.score, self.embed = (spectral_norm(nn.Linear(*shape)) for shape in ((channels[-1], 1), (len(KINDS), channels[-1])))

    def forward(self, images: Tensor, c: Tensor) -> Tensor:
        x = self.layers(2 * images - 1).float().mean((2, 3))
        return self.score(x)[:, 0] + (x * self.embed(c)).sum(1)


def train_finishing(net: KnownBigGAN, out: Path, steps: int, size: int = FINISHING_SIZE, device: str = "cpu") -> nn.Module:
    """Train the drawing generator beside a critic, from the checkpoint if there is one; the averaged generator, ready for use."""
    net.to(device, memory_format=torch.channels_last).train()
    critic, average = Critic().to(device).train(), frozen_copy(net)
    optimizer = torch.optim.Adam([p for name, p in net.named_parameters() if not name.startswith("mapping")], betas=(0.5, 0.99))
    judging = torch.optim.Adam(critic.parameters(), lr=4e-4, betas=(0.5, 0.99))

    def update(step: int) -> dict[str, float]:
        optimizer.param_groups[0]["lr"] = FINISHING_RATE * min(1, (step + 1) / 300) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        z, kinds = sample(size).to(device), torch.randint(len(KINDS), (size,)).to(device)
        target, masks = picture(factors(z), kinds)
        c = F.one_hot(kinds, len(KINDS)).float()
        with torch.autocast(target.device.type, torch.bfloat16):
            drawn = (net(z, c) + 1) / 2
            shown = drawn.detach().float().requires_grad_()
            scores, exact = critic(shown.detach(), c), critic(target, c)
        judged = F.relu(1 + scores).mean() + F.relu(1 - exact).mean()
        judging.zero_grad()
        judged.backward()
        judging.step()
        loss = drawing_loss(shown, target, masks)
        with torch.autocast(target.device.type, torch.bfloat16):
            pleasing = critic(shown, c).mean()
        asked, wished = torch.autograd.grad(loss, shown)[0], torch.autograd.grad(-pleasing, shown)[0]
        scale = SHARE * asked.flatten(1).norm(dim=1) / wished.flatten(1).norm(dim=1).clamp(min=1e-12)
        optimizer.zero_grad()
        drawn.backward((asked + scale[:, None, None, None] * wished).to(drawn.dtype))
        optimizer.step()
        average_into(average, net, 0.5 ** (size / AVERAGE_OVER))
        return {"loss": loss.item(), "critic": judged.item()}

    def report(step: int) -> dict[str, float]:
        return quality(settle(average), out / f"finishing_{step:05d}.png")

    parts = {"net": net, "average": average, "optimizer": optimizer, "critic": critic, "judging": judging}
    loop("finishing", Checkpoint(out / "finishing.pt", **parts), steps, update, report, every=1000)
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
