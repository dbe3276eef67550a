"""Training recipe of the two DINO models among the viewers. Resumable: run the same command again after a stop.

    python -m interp_utils.sandbox.viewers.train_dino vit
    python -m interp_utils.sandbox.viewers.train_dino resnet

Caron et al., "Emerging Properties in Self-Supervised Vision Transformers" (2021): a student sees large and small crops of an
image, its teacher (the student's moving average) the large ones; the student predicts the teacher's centred and sharpened
output for another crop of the same image. No label is used. What differs from the paper, for a start within minutes:
1. Prototypes are random and stay so, and the head ends in batch norm. In short runs with learned ones the teacher's answers
   stayed near uniform.
2. What the head puts out is decorrelated, as in VICReg (Bardes et al. 2022). Crops of one image share its background, and a
   model that tells images apart by backgrounds alone need not learn objects (Chen et al. 2021, "Intriguing properties of
   contrastive losses"). That this helps here is a hope: no run has been long enough to tell.
3. Hues turn all the way round, some crops are negatives, and each gets a share of the low frequencies of another image. Small
   crops are large enough to hold some of the object.
"""

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms.v2.functional import gaussian_blur

from ..train_clip import optimizer_for
from ..world import natural
from ..zoo.models import save
from ..zoo.train_dino import Centre, dino_loss
from ..zoo.training import Checkpoint, arguments, average_into, frozen_copy, loop, set_rate
from .curves import Curve
from .data import drawn, training_batch
from .models import BUILDERS

STEPS, SIZE, RATE = {"vit": 20_000, "resnet": 20_000}, 64, {"vit": 2e-3, "resnet": 2e-3}
LARGE, SMALL = (2, 48, (0.5, 1.0)), (4, 32, (0.25, 0.6))  # number of crops, side in pixels, share of the image's area
PROTOTYPES = 1024
TURN, BLURRED = 0.35, 0.3  # radians to either side; share of the crops
CELLS = 8  # a side, of the coarse images whose differences are exchanged
WEAK = {"hue": 0.6, "grey": 0.2, "negative": 0.0, "exchanged": 0.3}  # radians to either side; shares of the crops; largest share
STRONG = {"hue": math.pi, "grey": 0.4, "negative": 0.25, "exchanged": 1.0}  # the same later on
STRONGER = 300, 1000  # steps between which the augmentation grows from weak to strong; strong ones alone teach nothing at first
KEEP_TEACHER = 0.99
DECORRELATION = 0.2  # weight of that loss; with 1 the other one hardly falls at first
HOLD = 0.75  # share of the run after which the rate falls


def crops(pixels: Tensor, side: int, area: tuple[float, float]) -> Tensor:
    """One random crop of each image [B, 3, 64, 64], turned, resized to [B, 3, side, side]; half of them are mirrored."""
    n = len(pixels)
    share = torch.empty(n, 1).uniform_(*area).sqrt()
    ratio = torch.empty(n, 1).uniform_(-0.25, 0.25).exp()  # of width to height, before the square root
    scale = torch.cat([share * ratio.sqrt(), share / ratio.sqrt()], 1).clamp(max=1)
    mirror = torch.where(torch.rand(n) < 0.5, -1.0, 1.0)
    angle = torch.empty(n).uniform_(-TURN, TURN)
    theta = torch.empty(n, 2, 3)
    theta[:, 0, 0], theta[:, 0, 1] = scale[:, 0] * mirror * angle.cos(), -scale[:, 1] * angle.sin()
    theta[:, 1, 0], theta[:, 1, 1] = scale[:, 0] * mirror * angle.sin(), scale[:, 1] * angle.cos()
    theta[:, :, 2] = (1 - scale) * torch.empty(n, 2).uniform_(-1, 1)
    grid = F.affine_grid(theta, [n, 3, side, side], align_corners=False)
    return F.grid_sample(pixels, grid, padding_mode="reflection", align_corners=False)


def recolour(pixels: Tensor, hue: float, grey: float, negative: float) -> Tensor:
    """Random contrast, brightness, saturation and hue of each image [B, 3, h, w]; some without colour, some as negatives."""
    n = len(pixels)
    contrast, brightness = 1 + torch.empty(2, n).uniform_(-0.5, 0.5)
    contrast = torch.where(torch.rand(n) < negative, -contrast, contrast)
    saturation = torch.where(torch.rand(n) < grey, 0.0, 1 + torch.empty(n).uniform_(-0.5, 0.5))
    angle = torch.empty(n).uniform_(-hue, hue)
    mean = torch.full((3, 3), 1 / 3)
    turn = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)  # turns colours about the grey axis
    cos, sin, saturation = (x[:, None, None] for x in (angle.cos(), angle.sin(), saturation))
    mix = mean + saturation * (cos * (torch.eye(3) - mean) + sin * turn)
    mixed = torch.einsum("bij,bjhw->bihw", mix, pixels) * contrast[:, None, None, None] + 2 * (brightness - 1)[:, None, None, None]
    return mixed.clamp(-2, 2)


def exchange(pixels: Tensor, exchanged: float) -> Tensor:
    """Move the low frequencies of each image [B, 3, h, w] towards those of another one of the batch by a random share."""
    factor = pixels.shape[-1] // CELLS
    low = F.avg_pool2d(pixels, factor)
    change = exchanged * torch.rand(len(pixels), 1, 1, 1) * (low[torch.randperm(len(pixels))] - low)
    return (pixels + F.interpolate(change, scale_factor=factor, mode="bilinear")).clamp(-2, 2)


def blur(pixels: Tensor) -> Tensor:
    """Blur a share of the images [B, 3, h, w], each by a random amount."""
    soft = gaussian_blur(pixels, 7, 1.2)
    amount = torch.rand(len(pixels), 1, 1, 1) * (torch.rand(len(pixels), 1, 1, 1) < BLURRED)
    return torch.lerp(pixels, soft, amount)


def views(pixels: Tensor, number: int, side: int, area: tuple[float, float], step: int) -> Tensor:
    """Augmented crops of images [B, 3, 64, 64], one image after the other and then again: [number * B, 3, side, side]."""
    grown = min(1.0, max(0.0, (step - STRONGER[0]) / (STRONGER[1] - STRONGER[0])))
    hue, grey, negative, exchanged = (WEAK[key] + grown * (STRONG[key] - WEAK[key]) for key in WEAK)
    found = [blur(exchange(recolour(crops(pixels, side, area), hue, grey, negative), exchanged)) for _ in range(number)]
    return torch.cat(found).contiguous(memory_format=torch.channels_last)


class Network(nn.Module):
    """Backbone and DINO head: images [B, 3, h, w] -> what the head puts out [B, 64] and its scores of the prototypes [B, P]."""

    def __init__(self, backbone: nn.Module, hidden: int = 256, bottleneck: int = 64):
        super().__init__()
        self.backbone = backbone
        layers = []
        for width in (backbone.num_features, hidden):  # batch norm in the head: images differ from the start
            layers += [nn.Linear(width, hidden), nn.BatchNorm1d(hidden), nn.GELU()]
        self.head = nn.Sequential(*layers, nn.Linear(hidden, bottleneck), nn.BatchNorm1d(bottleneck, affine=False))
        self.register_buffer("prototypes", F.normalize(torch.randn(PROTOTYPES, bottleneck), dim=1))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        found = self.head(self.backbone(pixels))
        return found, (F.normalize(found, dim=1) @ self.prototypes.T).float()


def correlation_loss(found: Tensor) -> Tensor:
    """Sum of the squared correlations between different columns of [B, D], divided by D."""
    found = found.float() - found.float().mean(0)
    correlations = F.normalize(found, dim=0).T @ F.normalize(found, dim=0)
    return (correlations.square().sum() - correlations.diag().square().sum()) / len(correlations)


@torch.no_grad()
def settle(backbone: nn.Module, batches: int = 8) -> nn.Module:
    """A copy of a backbone, ready for use: its batch statistics measured on whole training images, as they are."""
    ready = frozen_copy(backbone)
    for module in ready.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # a plain mean over the batches
    ready.train()
    for k in range(batches):
        ready(drawn([natural(seed) for seed in range(k * 250, (k + 1) * 250)]))
    return ready.eval()


def run(kind: str, out: Path, steps: int, size: int = SIZE, every: int = 1000) -> nn.Module:
    """Train, from the checkpoint if there is one, for at most `steps` steps; the teacher's backbone in eval mode."""
    torch.manual_seed(0)
    student = Network(BUILDERS[f"dino_{kind}"]()).to(memory_format=torch.channels_last)
    teacher, centre = frozen_copy(student), Centre(PROTOTYPES)
    trained = list(student.parameters())
    optimizer = optimizer_for(student.backbone, student.head, RATE[kind], {"vit": "blocks", "resnet": "layer"}[kind])
    curve = Curve(out / f"dino_{kind}.csv", size)

    def update(step: int) -> dict[str, float]:
        set_rate(optimizer, RATE[kind], step, steps, warm=100, hold=HOLD)
        pixels, _ = training_batch(step, size)
        large, small = views(pixels, *LARGE, step), views(pixels, *SMALL, step)
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                scores = teacher.train()(large)[1].unflatten(0, (-1, size))
            (found, guesses), (_, more) = student.train()(large), student(small)
        targets = centre.targets(scores)
        loss = dino_loss(torch.cat([guesses, more]).unflatten(0, (-1, size)), targets)
        correlated = correlation_loss(found)
        optimizer.zero_grad()
        (loss + DECORRELATION * correlated).backward()
        nn.utils.clip_grad_norm_(trained, 3.0)
        optimizer.step()
        speed = min(1.0, (1 - step / steps) / (1 - HOLD))  # the teacher slows down as the rate falls
        average_into(teacher, student, 1 - (1 - KEEP_TEACHER) * speed)
        mean = targets.flatten(0, 1).mean(0)  # both entropies near log P or near 0 would mean collapse
        return {
            "loss": loss.item(),
            "correlated": correlated.item(),
            "entropy": -torch.xlogy(targets, targets).sum(-1).mean().item(),
            "entropy of mean": -torch.xlogy(mean, mean).sum().item(),
        }

    parts = {"student": student, "teacher": teacher, "centre": centre, "optimizer": optimizer, "curve": curve}
    checkpoint = Checkpoint(out / f"dino_{kind}.pt", **parts)

    def report(step: int) -> dict[str, float]:
        return curve.report(step, settle(teacher.backbone))

    loop(f"dino_{kind}", checkpoint, steps, update, report, every, keep=int(HOLD * steps))
    return settle(teacher.backbone)


def main():
    args = arguments(__doc__, None, kind=("vit", "resnet"))
    model = run(args.kind, args.out, args.steps or STEPS[args.kind])
    save(model, args.out / f"dino_{args.kind}.safetensors")


if __name__ == "__main__":
    main()
