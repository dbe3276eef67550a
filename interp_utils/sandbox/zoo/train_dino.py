"""Training recipe of the two DINO models of the sandbox zoo. Resumable: run the same command again after a stop.

    python -m interp_utils.sandbox.zoo.train_dino vit
    python -m interp_utils.sandbox.zoo.train_dino resnet

Caron et al., "Emerging Properties in Self-Supervised Vision Transformers" (2021): a student sees large and small crops of an
image, its teacher (the student's moving average) the large ones; the student predicts the teacher's centred and sharpened
output for another crop of the same image. No label is used.
"""

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from ..training import Checkpoint, arguments, average_into, frozen_copy, loop, set_rate
from .data import training_batch
from .models import BUILDERS, save
from .report import linear_probe

STEPS, SIZE, RATE = {"vit": 700, "resnet": 600}, 64, {"vit": 1e-3, "resnet": 2e-3}
LARGE, SMALL = (2, 64, (0.4, 1.0)), (4, 32, (0.15, 0.4))  # number of crops, side in pixels, share of the image's area
PROTOTYPES = 512
STUDENT_TEMPERATURE, TEACHER_TEMPERATURE = 0.1, 0.04
KEEP_CENTRE, KEEP_TEACHER = 0.9, 0.985


def crops(pixels: Tensor, side: int, area: tuple[float, float]) -> Tensor:
    """One random crop of each image [B, 3, 64, 64], resized to [B, 3, side, side]; half of them are mirrored."""
    share = torch.empty(len(pixels), 1).uniform_(*area).sqrt()
    ratio = torch.empty(len(pixels), 1).uniform_(-0.25, 0.25).exp()  # of width to height, before the square root
    scale = torch.cat([share * ratio.sqrt(), share / ratio.sqrt()], 1).clamp(max=1)
    centre = (1 - scale) * torch.empty(len(pixels), 2).uniform_(-1, 1)
    mirror = torch.where(torch.rand(len(pixels)) < 0.5, -1.0, 1.0)
    theta = torch.zeros(len(pixels), 2, 3)
    theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = scale[:, 0] * mirror, scale[:, 1], centre
    grid = F.affine_grid(theta, [len(pixels), 3, side, side], align_corners=False)
    return F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)


def jitter(pixels: Tensor, strength: float = 0.4) -> Tensor:
    """Random contrast, brightness, saturation and hue of each image, a fifth of them without colour, [B, 3, h, w]."""
    n = len(pixels)
    contrast, brightness = 1 + torch.empty(2, n).uniform_(-strength, strength)
    saturation = torch.where(torch.rand(n) < 0.2, 0.0, 1 + torch.empty(n).uniform_(-strength, strength))
    angle = torch.empty(n).uniform_(-0.6, 0.6)
    grey = torch.full((3, 3), 1 / 3)
    turn = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)  # turns colours about the grey axis
    cos, sin, saturation = (x[:, None, None] for x in (angle.cos(), angle.sin(), saturation))
    mix = grey + saturation * (cos * (torch.eye(3) - grey) + sin * turn)
    mixed = torch.einsum("bij,bjhw->bihw", mix, pixels) * contrast[:, None, None, None] + 2 * (brightness - 1)[:, None, None, None]
    return mixed.clamp(-2, 2).contiguous(memory_format=torch.channels_last)


class Network(nn.Module):
    """Backbone and DINO head: images [B, 3, h, w] -> scores of the prototypes [B, P]."""

    def __init__(self, backbone: nn.Module, hidden: int = 256, bottleneck: int = 64):
        super().__init__()
        self.backbone = backbone
        width = backbone.num_features
        self.head = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, bottleneck)
        )
        self.prototypes = weight_norm(nn.Linear(bottleneck, PROTOTYPES, bias=False))
        self.prototypes.parametrizations.weight.original0.requires_grad_(False).fill_(1)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.prototypes(F.normalize(self.head(self.backbone(pixels)), dim=-1)).float()


class Centre(nn.Module):
    """Running mean of the teacher's scores; taking it away keeps one prototype from winning everywhere."""

    def __init__(self, prototypes: int = PROTOTYPES):
        super().__init__()
        self.register_buffer("mean", torch.zeros(prototypes))

    def targets(self, scores: Tensor) -> Tensor:
        """Teacher probabilities of scores [..., P]; then move the centre."""
        probabilities = ((scores - self.mean) / TEACHER_TEMPERATURE).softmax(-1)
        self.mean.lerp_(scores.flatten(0, -2).mean(0), 1 - KEEP_CENTRE)
        return probabilities


def dino_loss(student: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy between crops of the same image: student scores [S, B, P] against teacher probabilities [T, B, P].

    The first T of the student's crops are the teacher's; a crop is not compared with itself.
    """
    log = (student / STUDENT_TEMPERATURE).log_softmax(-1)
    losses = -torch.einsum("tbp,sbp->ts", targets, log) / student.shape[1]
    other = ~torch.eye(len(targets), len(student), dtype=torch.bool, device=student.device)
    return losses[other].mean()


def run(kind: str, out: Path, steps: int, size: int = SIZE, every: int = 500) -> nn.Module:
    """Train, from the checkpoint if there is one, for at most `steps` steps; the teacher's backbone in eval mode."""
    torch.manual_seed(0)
    student = Network(BUILDERS[f"dino_{kind}"]()).to(memory_format=torch.channels_last)
    teacher, centre = frozen_copy(student), Centre()
    trained = [p for p in student.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=RATE[kind], weight_decay=0.05)

    def update(step: int) -> dict[str, float]:
        set_rate(optimizer, RATE[kind], step, steps, warm=100)
        pixels, _ = training_batch(step, size)
        large, small = (torch.cat([jitter(crops(pixels, side, area)) for _ in range(n)]) for n, side, area in (LARGE, SMALL))
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                scores = teacher.train()(large).unflatten(0, (-1, size))
            guesses = torch.cat([student.train()(views).unflatten(0, (-1, size)) for views in (large, small)])
        targets = centre.targets(scores)
        loss = dino_loss(guesses, targets)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 3.0)
        optimizer.step()
        average_into(teacher, student, 1 - (1 - KEEP_TEACHER) * (1 + math.cos(math.pi * step / steps)) / 2)
        mean = targets.flatten(0, 1).mean(0)  # both entropies near log P or near 0 would mean collapse
        return {
            "loss": loss.item(),
            "entropy": -torch.xlogy(targets, targets).sum(-1).mean().item(),
            "entropy of mean": -torch.xlogy(mean, mean).sum().item(),
        }

    checkpoint = Checkpoint(out / f"dino_{kind}.pt", student=student, teacher=teacher, centre=centre, optimizer=optimizer)
    backbone = teacher.backbone
    loop(f"dino_{kind}", checkpoint, steps, update, lambda step: linear_probe(backbone, 1500, 500, ("object", "scene")), every)
    return backbone.eval()


def main():
    args = arguments(__doc__, None, kind=("vit", "resnet"))
    model = run(args.kind, args.out, args.steps or STEPS[args.kind])
    save(model, args.out / f"dino_{args.kind}.safetensors")
    print(linear_probe(model))


if __name__ == "__main__":
    main()
