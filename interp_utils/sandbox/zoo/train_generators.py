"""Training recipe of the two generators of the sandbox zoo. Resumable: run the same command again after a stop.

    python -m interp_utils.sandbox.zoo.train_generators big
    python -m interp_utils.sandbox.zoo.train_generators style

Both see fresh images of a few kinds of object (data.generator_spec). A GAN alone would need many hours of a core, and put every
object in the same place until then. So an encoder helps, as in Larsen et al., "Autoencoding beyond pixels using a learned
similarity metric" (2016): it finds the z of an image, and what must be reconstructed from it cannot be left out; so place,
colour and scene soon find room in z. The first steps do only that. Then a discriminator on the maps of the zoo's supervised
ResNet (projected.py) judges what is drawn from random z, with BigGAN's hinge loss, or with StyleGAN2's logistic loss and its
lazy R1 penalty. The encoder is thrown away; what ships is the moving average of the generator.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.utils import save_image

from .big_gan import BigGenerator
from .data import GROUP, KINDS, generator_batch, kinds_of, one_hot
from .models import load, save
from .projected import ProjectedDiscriminator, stage_maps
from .report import recognised
from .style_gan import StyleGenerator
from .training import Checkpoint, arguments, average_into, frozen_copy, loop, set_rate

STEPS, SIZE = {"big": 2000, "style": 2200}, 32
ALONE = {"big": 500, "style": 1000}  # the first steps, which only reconstruct
RATES = {"big": (5e-4, 1e-3, 1e-3), "style": (6e-3, 2e-3, 1e-3)}  # of generator, discriminator and encoder
NAT, MAPS = 3e-4, 0.1  # what a nat of z and the error of the ResNet's maps weigh beside the error of pixels
PRESSURE = 0.7  # norm of the discriminator's gradient at the images beside that of the reconstruction
R1, R1_EVERY = 0.02, 16  # Karras et al. 2020: 0.0002 * pixels / batch
AVERAGE_OVER = 5_000  # images over which the moving average of the generator halves the past
NOISE_RATE = 0.002  # relative learning rate of noise strengths, which in so short a training would grow and hide the objects


class Encoder(nn.Module):
    """Images [B, 3, 64, 64] and class weights [B, kinds] -> mean and log-variance of z, two [B, d_z]."""

    def __init__(self, d_z: int, kinds: int, width: int = 48):
        super().__init__()
        widths = [3 + kinds, width, 2 * width, 3 * width, 4 * width]
        halves = ((nn.Conv2d(a, b, 4, stride=2, padding=1), nn.BatchNorm2d(b), nn.ReLU()) for a, b in zip(widths, widths[1:]))
        self.body = nn.Sequential(*(layer for half in halves for layer in half), nn.Flatten())
        self.out = nn.Linear(widths[-1] * 16, 2 * d_z)

    def forward(self, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.cat([x, c[:, :, None, None].expand(-1, -1, *x.shape[2:])], 1)
        mean, log_variance = self.out(self.body(x)).float().chunk(2, 1)
        return mean, log_variance.clamp(-8, 4)


def build(model: str, resnet: nn.Module) -> tuple[nn.Module, nn.Module, nn.Module]:
    """Generator, discriminator and encoder with random weights, the same for every call; the second reads the ResNet's maps."""
    torch.manual_seed(0)
    generator = (BigGenerator if model == "big" else StyleGenerator)(len(KINDS))
    discriminator = ProjectedDiscriminator(resnet.to(memory_format=torch.channels_last), len(KINDS))
    return generator, discriminator, Encoder(generator.d_z, len(KINDS))


def reconstruction_error(resnet: nn.Module, images: Tensor, painted: Tensor) -> Tensor:
    """Mean absolute error of pixels, and with weight MAPS that of the ResNet's first two stages in units of their size."""
    error = (images - painted).abs().mean()
    for true, seen in zip(stage_maps(resnet, images, 2), stage_maps(resnet, painted, 2)):
        error = error + MAPS * (true - seen).float().abs().mean() / true.float().abs().mean()
    return error


def gaussian(mean: Tensor, log_variance: Tensor) -> tuple[Tensor, Tensor]:
    """A draw of z [B, d_z], and how many nats it tells about its image (KL from the standard normal), averaged over images."""
    nats = 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum(1).mean()
    return mean + torch.randn_like(mean) * (log_variance / 2).exp(), nats


def discriminator_loss(model: str, real: Tensor, fake: Tensor) -> Tensor:
    """Hinge loss (BigGAN) or logistic loss (StyleGAN) of the scores of real and generated images."""
    if model == "big":
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def generator_loss(model: str, fake: Tensor) -> Tensor:
    return -fake.mean() if model == "big" else F.softplus(-fake).mean()


def r1_penalty(discriminator: nn.Module, images: Tensor, kinds: Tensor) -> Tensor:
    """Mean squared norm of the gradient of an image's mean score by its pixels (Mescheder et al. 2018)."""
    images = images.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(discriminator(images, kinds).mean(1).sum(), images, create_graph=True)
    return gradient.square().sum((1, 2, 3)).mean()


def draw(generator: nn.Module, n: int) -> tuple[Tensor, Tensor]:
    """Random z [n, d_z] and class weights [n, kinds], in groups of a kind as the images of a batch are."""
    return torch.randn(n, generator.d_z), one_hot(kinds_of(range(n)))


def judge(model: str, step: int, images: Tensor, kinds: Tensor, nets: tuple, opt) -> dict[str, float]:
    """One update of the discriminator."""
    generator, discriminator, _ = nets
    with torch.autocast("cpu", torch.bfloat16):
        with torch.no_grad():
            z, c = draw(generator, len(images))
            fake = generator(z, c)
        real_score, fake_score = discriminator(images, kinds), discriminator(fake, c)
        loss = discriminator_loss(model, real_score, fake_score)
    if model == "style" and step % R1_EVERY == 0:
        loss = loss + R1 / 2 * R1_EVERY * r1_penalty(discriminator, images, kinds)
    opt.zero_grad()
    loss.backward()
    opt.step()
    return {"d": loss.item(), "real": real_score.mean().item(), "fake": fake_score.mean().item()}


def train_step(model: str, step: int, size: int, nets: tuple, opts: tuple, average: nn.Module) -> dict[str, float]:
    """One update of generator and encoder and of the generator's average; later on also one of the discriminator before it."""
    generator, discriminator, encoder = nets
    (resnet,) = discriminator.frozen
    alone = step < ALONE[model]
    images, kinds = generator_batch(step, size)
    log = {} if alone else judge(model, step, images, kinds, nets, opts[1])

    discriminator.requires_grad_(False)
    with torch.autocast("cpu", torch.bfloat16):
        z, nats = gaussian(*encoder(images, kinds))
        z_new, c = draw(generator, size)
        painted = generator(z, kinds) if alone else generator(torch.cat([z, z_new]), torch.cat([kinds, c]))
        seen = painted.detach().requires_grad_(True)
        error = reconstruction_error(resnet, images, seen[:size])
        (gradient,) = torch.autograd.grad(error, seen)
        if not alone:  # the two losses have no common unit, so their gradients at the images are weighed
            loss = generator_loss(model, discriminator(seen[size:], c))
            (other,) = torch.autograd.grad(loss, seen)
            gradient = gradient + other * (PRESSURE * gradient.norm() / other.norm().clamp(min=1e-12))
    for opt in (opts[0], opts[2]):
        opt.zero_grad()
    torch.autograd.backward([painted, NAT * nats], [gradient, None])
    for opt in (opts[0], opts[2]):
        opt.step()
    discriminator.requires_grad_(True)
    # Early on the average forgets faster, or it would hold on to the random start.
    average_into(average, generator, 0.5 ** (size / min(AVERAGE_OVER, max(1, step * size * 0.05))))
    return {"error": error.item(), "nats": nats.item(), **log}


def parameter_groups(net: nn.Module) -> list[dict]:
    noise = [p for name, p in net.named_parameters() if name.endswith("noise.strength")]
    rest = [p for name, p in net.named_parameters() if not name.endswith("noise.strength")]
    return [{"params": rest}, *([{"params": noise, "lr_scale": NOISE_RATE}] if noise else [])]


@torch.no_grad()
def settle(average: nn.Module, batches: int = 40) -> nn.Module:
    """A copy of the averaged generator, ready for use: its batch statistics or mean styles measured on fresh z."""
    torch.manual_seed(0)
    ready = frozen_copy(average)
    if isinstance(ready, BigGenerator):
        for module in ready.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.reset_running_stats()
                module.momentum = None  # a plain mean over the batches
        ready.train()
        for _ in range(batches):
            ready(*draw(ready, 4 * GROUP * len(KINDS)))
    else:
        for k in range(ready.kinds):
            ready.mapping.w_mean[k] = ready.mapping(torch.randn(4096, ready.d_z), one_hot([k] * 4096)).mean(0)
    return ready.eval()


@torch.no_grad()
def samples(generator: nn.Module, per_kind: int, seed: int, limit: float | None = None) -> tuple[Tensor, Tensor]:
    """Images [kinds * per_kind, 3, 64, 64] in -1..1 and their kinds, integers. limit: where the normal z is cut off."""
    torch.manual_seed(seed)
    labels = torch.arange(generator.kinds).repeat_interleave(per_kind)
    z = torch.empty(len(labels), generator.d_z)
    z = z.normal_() if limit is None else nn.init.trunc_normal_(z, a=-limit, b=limit)
    c = one_hot(labels)
    return torch.cat([generator(a, b) for a, b in zip(z.split(100), c.split(100))]).clamp(-1, 1), labels


def run(model: str, resnet: nn.Module, out: Path, steps: int, size: int = SIZE, every: int = 500) -> nn.Module:
    """Train, from the checkpoint if there is one, for at most `steps` steps; the averaged generator, ready for use."""
    nets = build(model, resnet)
    for net in nets:
        net.to(memory_format=torch.channels_last).train()
    average = frozen_copy(nets[0])
    opts = [torch.optim.Adam(parameter_groups(net), betas=(momentum, 0.99)) for net, momentum in zip(nets, (0.5, 0.0, 0.5))]

    def update(step: int) -> dict[str, float]:
        for opt, rate in zip(opts, RATES[model]):
            set_rate(opt, rate, step, steps, hold=0.6)
        return train_step(model, step, size, nets, opts, average)

    def report(step: int) -> dict[str, float]:
        ready = settle(average, 10)
        save_image(samples(ready, 16, 1)[0], out / f"{model}_{step:05d}.png", nrow=16, normalize=True, value_range=(-1, 1))
        return recognised(*samples(ready, 50, 2))

    names = ("generator", "discriminator", "encoder")
    parts = {**dict(zip(names, nets)), **{f"optimizer of {name}": opt for name, opt in zip(names, opts)}}
    loop(model, Checkpoint(out / f"{model}.pt", average=average, **parts), steps, update, report, every)
    return settle(average)


def main():
    args = arguments(__doc__, None, model=("big", "style"))
    generator = run(args.model, load("resnet"), args.out, args.steps or STEPS[args.model])
    save(generator, args.out / f"{args.model}_gan.safetensors")
    print(recognised(*samples(generator, 200, 3)))


if __name__ == "__main__":
    main()
