"""Training recipe of the adversarial generator: by contest with a discriminator, never shown what a latent shall become. Resumable.

    python -m interp_utils.sandbox.adversarial.train

Heads judge the pixels and the maps of a frozen classifier at four scales, mixed by fixed random projections (Sauer et al.,
"Projected GANs Converge Faster", 2021), with spectral norm (Miyato et al. 2018) and class projection (Miyato and Koyama 2018); the
loss is the hinge. With a discriminator on pixels alone, a core learns little in an hour. The classifier is the viewer `resnet`: it
can be no impartial partner of this generator's units.
Two images of a kind are judged side by side, and shall differ as much as two real ones (after Mao et al., "Mode Seeking Generative
Adversarial Networks", 2019): without either, samples of a kind were all alike after 200 steps.
What ships is the moving average of the generator's weights, its batch statistics measured on fresh latents.
"""

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from torchvision.utils import save_image

from ...models import load_clip
from ..known.latents import KINDS, Factors, factors, picture, sample
from ..known.reader import load_reader
from ..known.report import told
from ..known.train import settle
from ..training import Checkpoint, arguments, average_into, frozen_copy, loop, set_rate
from ..viewers import load
from ..weights import save
from . import blank

STEPS, SIZE, RATES = 3_000, 20, (5e-4, 1e-3)  # rates of generator and discriminator
STOCK = 6_000  # pictures, drawn once
GROUP = 2  # images in a row are of one kind, so that the discriminator sees sameness
AVERAGE_OVER = 4_000  # images over which the moving average halves the past
HOLD = 0.6  # share of the run after which the rates fall


def halve(c_in: int, c_out: int) -> nn.Sequential:
    return nn.Sequential(spectral_norm(nn.Conv2d(c_in, c_out, 4, stride=2, padding=1)), nn.LeakyReLU(0.2))


def paired(x: Tensor) -> Tensor:
    """Maps [B, C, h, w], those of two images of a kind side by side in channels [B / 2, 2 C, h, w] (Lin et al., "PacGAN", 2018)."""
    return x.unflatten(0, (-1, GROUP)).flatten(1, 2)


def apart(images: Tensor) -> Tensor:
    """Mean difference of the two images of each pair, at 16 x 16 pixels."""
    first, second = F.avg_pool2d(images.float(), 4).unflatten(0, (-1, GROUP)).unbind(1)
    return (first - second).abs().mean()


class Head(nn.Module):
    """Maps [B, C, side, side], class weights [B, kinds] -> realness [B / 2, 16] of a 4 x 4 grid."""

    def __init__(self, channels: int, side: int, width: int):
        super().__init__()
        widths = [channels] + [width] * round(math.log2(side // 4))
        self.body = nn.Sequential(*(halve(a, b) for a, b in zip(widths, widths[1:])))
        self.last = spectral_norm(nn.Conv2d(GROUP * widths[-1], width, 3, padding=1))
        self.out = spectral_norm(nn.Conv2d(width, 1, 1))
        self.embed = spectral_norm(nn.Linear(len(KINDS), width, bias=False))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        x = F.leaky_relu(self.last(paired(self.body(x))), 0.2)
        return (self.out(x)[:, 0] + torch.einsum("bk,bkhw->bhw", self.embed(c[::GROUP]), x)).flatten(1).float()


class Discriminator(nn.Module):
    """Images [B, 3, 64, 64] in -1..1, class weights [B, kinds] -> realness [B / 2, 80].

    eyes: a ResNet as `viewers.models.resnet`.
    """

    def __init__(self, eyes: nn.Module, width: int = 64):
        super().__init__()
        self.eyes = (eyes.eval().requires_grad_(False),)  # in a tuple, so that it is not saved with the heads
        self.heads = nn.ModuleList([Head(12, 32, width)])
        for k, (stage, side) in enumerate(zip(self.stages(), (32, 16, 8, 4))):
            channels = stage[-1].conv2.out_channels
            self.register_buffer(f"mix{k}", torch.randn(channels, channels, 1, 1) / math.sqrt(channels))
            self.heads.append(Head(channels, side, width))

    def stages(self) -> list[nn.Module]:
        (eyes,) = self.eyes
        return [eyes.layer1, eyes.layer2, eyes.layer3, eyes.layer4]

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        (eyes,) = self.eyes
        scores = [self.heads[0](F.pixel_unshuffle(x, 2), c)]
        x = eyes.act1(eyes.bn1(eyes.conv1(2 * x)))  # its pixels are in -2..2
        for k, (stage, head) in enumerate(zip(self.stages(), self.heads[1:])):
            x = stage(x)
            scores.append(head(F.conv2d(x, self.get_buffer(f"mix{k}")), c))
        return torch.cat(scores, 1)


def one_hot(kinds: Tensor) -> Tensor:
    return F.one_hot(kinds, len(KINDS)).float()


def kinds_of(n: int) -> Tensor:
    """Kinds [n], in groups, all ten in turn."""
    return torch.arange(n) // GROUP % len(KINDS)


@torch.no_grad()
def stock(n: int, seed: int = 7) -> Tensor:
    """Exact pictures [kinds, n // kinds, 3, 64, 64] as bytes: one or two whole copies of an object, all else as latents have it."""
    generator, parts = torch.Generator().manual_seed(seed), []
    for kind in range(len(KINDS)):
        found: list[Tensor] = []
        while sum(map(len, found)) < n // len(KINDS):
            known = factors(sample(min(500, 4 * n // len(KINDS) + 16), generator))
            fits = (known.present[:, 0] == 1) & (known.present[:, 1] % 1 == 0)
            known = Factors(*(part[fits] for part in known))
            image, _ = picture(known, torch.full((len(known.sizes),), kind))
            found.append((image * 255).round().byte())
        parts.append(torch.cat(found)[: n // len(KINDS)])
    return torch.stack(parts)


def seeded() -> nn.Module:
    """A generator with orthogonal first weights, under which latents and classes differ from the first step on."""
    torch.manual_seed(0)
    generator = blank()
    for module in generator.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.orthogonal_(module.weight)
    nn.init.orthogonal_(generator.embed.weight, 3)
    for k, layer in enumerate(generator.mapping[::2]):
        nn.init.orthogonal_(layer.weight, math.sqrt(2) * (1 if k else 2))
    return generator


def run(eyes: nn.Module, out: Path, steps: int, size: int = SIZE, pictures: Tensor | None = None, every: int = 250) -> nn.Module:
    """Train from the checkpoint if there is one; the averaged generator, ready for use. pictures: as of `stock`."""
    nets = seeded(), Discriminator(eyes.to(memory_format=torch.channels_last))
    for net in nets:
        net.to(memory_format=torch.channels_last).train()
    generator, discriminator = nets
    average = frozen_copy(generator)
    others = [p for name, p in generator.named_parameters() if not name.startswith("mapping")]
    groups = [{"params": others}, {"params": generator.mapping.parameters(), "lr_scale": 0.2}], discriminator.parameters()
    opts = [torch.optim.Adam(group, RATES[k], betas=(0.0, 0.99)) for k, group in enumerate(groups)]
    pictures = stock(STOCK) if pictures is None else pictures
    kinds = kinds_of(size)
    c = one_hot(kinds)

    def update(step: int) -> dict[str, float]:
        for opt, rate in zip(opts, RATES):
            set_rate(opt, rate, step, steps, warm=20, hold=HOLD)
        real = pictures[kinds, torch.randint(pictures.shape[1], (size,))].float() / 127.5 - 1
        real = real.contiguous(memory_format=torch.channels_last)
        distance = apart(real).clamp(min=1e-3)  # by chance all pairs may be the same picture twice
        with torch.autocast("cpu", torch.bfloat16):
            fake = generator(sample(size), c)
            on_real, on_fake = discriminator(torch.cat([real, fake.detach()]), torch.cat([c, c])).chunk(2)
            loss_d = F.relu(1 - on_real).mean() + F.relu(1 + on_fake).mean()
        opts[1].zero_grad()
        loss_d.backward()
        opts[1].step()
        discriminator.requires_grad_(False)
        with torch.autocast("cpu", torch.bfloat16):
            loss_g = -discriminator(fake, c).mean() + F.relu(1 - apart(fake) / distance)
        opts[0].zero_grad()
        loss_g.backward()
        opts[0].step()
        discriminator.requires_grad_(True)
        # Early on the average forgets faster, or it would hold on to the random start.
        average_into(average, generator, 0.5 ** (size / min(AVERAGE_OVER, max(size, 0.05 * step * size))))
        shown = {"d": loss_d, "g": loss_g, "real": on_real.mean(), "fake": on_fake.mean(), "apart": apart(fake) / distance}
        return {name: value.item() for name, value in shown.items()}

    def report(step: int) -> dict[str, float]:
        ready = settle(average)
        sheet(ready, out / f"contest_{step:05d}.png")
        return quality(ready, 100)

    parts = {"generator": generator, "discriminator": discriminator, "average": average}
    checkpoint = Checkpoint(out / "contest.pt", **parts, optimizer_g=opts[0], optimizer_d=opts[1])
    loop("contest", checkpoint, steps, update, report, every)
    return settle(average)


@torch.no_grad()
def sheet(generator: nn.Module, path: Path) -> None:
    """Sixteen samples of each kind, a row each."""
    c = one_hot(torch.arange(len(KINDS)).repeat_interleave(16))
    images = generator(sample(len(c), torch.Generator().manual_seed(5)), c)
    save_image(images.clamp(-1, 1), path, nrow=16, normalize=True, value_range=(-1, 1))


@torch.no_grad()
def quality(generator: nn.Module, n: int = 500) -> dict[str, float]:
    """Of n samples, shares whose kind the CLIP and the reader tell as it was asked for, among ten, and where they agree."""
    kinds = torch.arange(n) % len(KINDS)
    z, c = sample(n, torch.Generator().manual_seed(6)), one_hot(kinds)
    images = generator(z, c).add(1).div(2).clamp(0, 1)
    seen, read = told(load_clip("sandbox", device="cpu"), images), load_reader().read(images)
    shares = {"CLIP": seen == kinds, "reader": read.object.argmax(1) == kinds, "agree": seen == read.object.argmax(1)}
    shares["one"], shares["none"] = (read.count.argmax(1) == k for k in (1, 0))
    return {name: each.float().mean().item() for name, each in shares.items()}


def main():
    args = arguments(__doc__, STEPS)
    generator = run(load("resnet"), args.out, args.steps)
    save(generator, args.out / "big_gan.safetensors")
    print(quality(generator))


if __name__ == "__main__":
    main()
