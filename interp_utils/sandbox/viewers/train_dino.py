"""Training recipe of the two DINO models among the viewers. Resumable: run the same command again after a stop.

    python -m interp_utils.sandbox.viewers.train_dino vit
    python -m interp_utils.sandbox.viewers.train_dino resnet

Caron et al., "Emerging Properties in Self-Supervised Vision Transformers" (2021): a student sees large and small crops of an
image, its teacher (the student's moving average) the large ones; the student predicts the teacher's centred and sharpened
output for another crop of the same image. No label is used. Backgrounds are what crops of an image share most plainly, and a
model that tells images apart by them learns nothing of objects (Chen et al. 2021, "Intriguing properties of contrastive
losses"); so colours are jittered strongly, crops turned, and each gets a share of the low frequencies of another image. Small
crops are large enough to hold some of the object, and there are more prototypes than kinds of background.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torchvision.transforms.v2.functional import gaussian_blur

from ..world import natural
from ..zoo.models import save
from ..zoo.train_dino import Centre, dino_loss, jitter
from ..zoo.training import Checkpoint, arguments, average_into, frozen_copy, loop, set_rate
from .curves import Curve
from .data import drawn, training_batch
from .models import BUILDERS

STEPS, SIZE, RATE = {"vit": 6000, "resnet": 6000}, 64, {"vit": 1e-3, "resnet": 2e-3}
LARGE, SMALL = (2, 48, (0.5, 1.0)), (4, 32, (0.25, 0.6))  # number of crops, side in pixels, share of the image's area
PROTOTYPES = 4096
JITTER, TURN = 0.6, 0.35  # strength of the colour jitter; radians to either side
BLURRED, SOLARISED = 0.5, 0.2  # shares of the crops
KEEP_TEACHER = 0.99
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


def exchange(pixels: Tensor) -> Tensor:
    """Move the low frequencies of each image [B, 3, h, w] towards those of another one of the batch by a random share."""
    factor = pixels.shape[-1] // 4
    low = F.avg_pool2d(pixels, factor)
    change = torch.rand(len(pixels), 1, 1, 1) * (low[torch.randperm(len(pixels))] - low)
    return (pixels + F.interpolate(change, scale_factor=factor, mode="bilinear")).clamp(-2, 2)


def blur(pixels: Tensor) -> Tensor:
    """Blur a share of the images [B, 3, h, w], each by a random amount."""
    soft = gaussian_blur(pixels, 7, 1.2)
    amount = torch.rand(len(pixels), 1, 1, 1) * (torch.rand(len(pixels), 1, 1, 1) < BLURRED)
    return torch.lerp(pixels, soft, amount)


def solarise(pixels: Tensor) -> Tensor:
    """Turn what is brighter than a random threshold dark, in a share of the images [B, 3, h, w]."""
    threshold = torch.empty(len(pixels), 1, 1, 1).uniform_(-0.5, 1.5)
    chosen = torch.rand(len(pixels), 1, 1, 1) < SOLARISED
    return torch.where(chosen & (pixels > threshold), 2 * threshold - pixels, pixels)


def views(pixels: Tensor, number: int, side: int, area: tuple[float, float]) -> Tensor:
    """Augmented crops of images [B, 3, 64, 64], one image after the other and then again: [number * B, 3, side, side]."""
    found = [solarise(blur(exchange(jitter(crops(pixels, side, area), JITTER)))) for _ in range(number)]
    return torch.cat(found).contiguous(memory_format=torch.channels_last)


class Network(nn.Module):
    """Backbone and DINO head: images [B, 3, h, w] -> scores of the prototypes [B, P]."""

    def __init__(self, backbone: nn.Module, hidden: int = 256, bottleneck: int = 64):
        super().__init__()
        self.backbone = backbone
        layers = []
        for width in (backbone.num_features, hidden):  # batch norm in the head: images differ from the start
            layers += [nn.Linear(width, hidden), nn.BatchNorm1d(hidden), nn.GELU()]
        self.head = nn.Sequential(*layers, nn.Linear(hidden, bottleneck))
        self.prototypes = weight_norm(nn.Linear(bottleneck, PROTOTYPES, bias=False))
        self.prototypes.parametrizations.weight.original0.requires_grad_(False).fill_(1)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.prototypes(F.normalize(self.head(self.backbone(pixels)), dim=-1)).float()


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


def run(kind: str, out: Path, steps: int, size: int = SIZE, every: int = 500) -> nn.Module:
    """Train, from the checkpoint if there is one, for at most `steps` steps; the teacher's backbone in eval mode."""
    torch.manual_seed(0)
    student = Network(BUILDERS[f"dino_{kind}"]()).to(memory_format=torch.channels_last)
    teacher, centre = frozen_copy(student), Centre(PROTOTYPES)
    trained = [p for p in student.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=RATE[kind], weight_decay=0.05)
    curve = Curve(out / f"dino_{kind}.csv", size)

    def update(step: int) -> dict[str, float]:
        set_rate(optimizer, RATE[kind], step, steps, warm=100, hold=HOLD)
        pixels, _ = training_batch(step, size)
        large, small = views(pixels, *LARGE), views(pixels, *SMALL)
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                scores = teacher.train()(large).unflatten(0, (-1, size))
            guesses = torch.cat([student.train()(x).unflatten(0, (-1, size)) for x in (large, small)])
        targets = centre.targets(scores)
        loss = dino_loss(guesses, targets)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 3.0)
        optimizer.step()
        speed = min(1.0, (1 - step / steps) / (1 - HOLD))  # the teacher slows down as the rate falls
        average_into(teacher, student, 1 - (1 - KEEP_TEACHER) * speed)
        mean = targets.flatten(0, 1).mean(0)  # both entropies near log P or near 0 would mean collapse
        return {
            "loss": loss.item(),
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
