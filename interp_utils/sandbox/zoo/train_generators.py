"""Training recipe of the two generators of the sandbox zoo. Resumable: run the same command again after a stop.

    python -m interp_utils.sandbox.zoo.train_generators big
    python -m interp_utils.sandbox.zoo.train_generators style

Both see fresh images of a few kinds of object (data.generator_spec), and a discriminator on the maps of the zoo's supervised
ResNet (projected.py): with one on pixels alone, a core learns little in an hour. "big" has BigGAN's hinge loss, "style"
StyleGAN2's non-saturating one with its lazy R1 penalty. What ships is the moving average of the generator.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.utils import save_image

from ..big_gan import BigGenerator
from ..training import Checkpoint, arguments, average_into, frozen_copy, loop, set_rate
from .data import GROUP, KINDS, generator_batch, kinds_of, one_hot
from .models import BUILDERS, load, save
from .projected import ProjectedDiscriminator
from .report import recognised

STEPS, SIZE = {"big": 2200, "style": 3000}, 32
RATES = {"big": (5e-4, 1e-3), "style": (6e-3, 2e-3)}  # of generator and discriminator
R1, R1_EVERY = 0.02, 16  # Karras et al. 2020: 0.0002 * pixels / batch
AVERAGE_OVER = {"big": 5_000, "style": 20_000}  # images over which the moving average of the generator halves the past
NOISE = {"big": {}, "style": {"noise": "random"}}  # drawn anew in training
NOISE_RATE = 0.002  # relative learning rate of noise strengths, which in so short a training would grow and hide the objects


def build(model: str, resnet: nn.Module) -> tuple[nn.Module, nn.Module]:
    """Generator and discriminator with random weights, the same for every call; the discriminator reads the ResNet's maps."""
    torch.manual_seed(0)
    return BUILDERS[f"{model}_gan"](), ProjectedDiscriminator(resnet.to(memory_format=torch.channels_last), len(KINDS))


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


def train_step(model: str, step: int, size: int, nets: tuple, opts: tuple, average: nn.Module) -> dict[str, float]:
    """One update of the discriminator, one of the generator, one of its average."""
    generator, discriminator = nets
    images, kinds = generator_batch(step, size)
    with torch.autocast("cpu", torch.bfloat16):
        with torch.no_grad():
            z, c = draw(generator, size)
            fake = generator(z, c, **NOISE[model])
        real_score, fake_score = discriminator(images, kinds), discriminator(fake, c)
        loss_d = discriminator_loss(model, real_score, fake_score)
    if model == "style" and step % R1_EVERY == 0:
        loss_d = loss_d + R1 / 2 * R1_EVERY * r1_penalty(discriminator, images, kinds)
    opts[1].zero_grad()
    loss_d.backward()
    opts[1].step()

    discriminator.requires_grad_(False)
    with torch.autocast("cpu", torch.bfloat16):
        z, c = draw(generator, size)
        loss_g = generator_loss(model, discriminator(generator(z, c, **NOISE[model]), c))
    opts[0].zero_grad()
    loss_g.backward()
    opts[0].step()
    discriminator.requires_grad_(True)
    # Early on the average forgets faster, or it would hold on to the random start.
    average_into(average, generator, 0.5 ** (size / min(AVERAGE_OVER[model], max(1, step * size * 0.05))))
    return {"d": loss_d.item(), "g": loss_g.item(), "real": real_score.mean().item(), "fake": fake_score.mean().item()}


def parameter_groups(net: nn.Module) -> list[dict]:
    noise = [p for name, p in net.named_parameters() if name.endswith("noise_strength")]
    rest = [p for name, p in net.named_parameters() if not name.endswith("noise_strength")]
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
        for k in range(len(KINDS)):
            ready.mapping.w_avg[k] = ready.mapping(torch.randn(4096, ready.d_z), one_hot([k] * 4096))[:, 0].mean(0)
    return ready.eval()


@torch.no_grad()
def samples(generator: nn.Module, per_kind: int, seed: int, limit: float | None = None, **options) -> tuple[Tensor, Tensor]:
    """Images [kinds * per_kind, 3, 64, 64] in -1..1 and their kinds, integers.

    limit: where the normal z is cut off; options: the generator's own, such as psi.
    """
    torch.manual_seed(seed)
    labels = torch.arange(len(KINDS)).repeat_interleave(per_kind)
    z = torch.empty(len(labels), generator.d_z)
    z = z.normal_() if limit is None else nn.init.trunc_normal_(z, a=-limit, b=limit)
    c = one_hot(labels)
    return torch.cat([generator(a, b, **options) for a, b in zip(z.split(100), c.split(100))]).clamp(-1, 1), labels


def run(model: str, resnet: nn.Module, out: Path, steps: int, size: int = SIZE, every: int = 500) -> nn.Module:
    """Train, from the checkpoint if there is one, for at most `steps` steps; the averaged generator, ready for use."""
    nets = build(model, resnet)
    for net in nets:
        net.to(memory_format=torch.channels_last).train()
    average = frozen_copy(nets[0])
    opts = [torch.optim.Adam(parameter_groups(net), betas=(0.0, 0.99)) for net in nets]

    def update(step: int) -> dict[str, float]:
        for opt, rate in zip(opts, RATES[model]):
            set_rate(opt, rate, step, steps, hold=0.6)
        return train_step(model, step, size, nets, opts, average)

    def report(step: int) -> dict[str, float]:
        ready = settle(average, 10)
        save_image(samples(ready, 16, 1)[0], out / f"{model}_{step:05d}.png", nrow=16, normalize=True, value_range=(-1, 1))
        return recognised(*samples(ready, 50, 2))

    checkpoint = Checkpoint(
        out / f"{model}.pt", generator=nets[0], discriminator=nets[1], average=average, optimizer_g=opts[0], optimizer_d=opts[1]
    )
    loop(model, checkpoint, steps, update, report, every)
    return settle(average)


def main():
    args = arguments(__doc__, None, model=("big", "style"))
    generator = run(args.model, load("resnet"), args.out, args.steps or STEPS[args.model])
    save(generator, args.out / f"{args.model}_gan.safetensors")
    print(recognised(*samples(generator, 200, 3)))


if __name__ == "__main__":
    main()
