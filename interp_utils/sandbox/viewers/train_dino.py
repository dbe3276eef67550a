"""Training recipe of the two DINO models among the viewers. Resumable: run the same command again after a stop.

    python -m interp_utils.sandbox.viewers.train_dino vit --device cuda
    python -m interp_utils.sandbox.viewers.train_dino resnet --device cuda

Without a device it takes small batches on one core, and learns the same more slowly.

Caron et al., "Emerging Properties in Self-Supervised Vision Transformers" (2021): a student sees large and small crops of an
image, its teacher (the student's moving average) the large ones; the student predicts the teacher's centred and sharpened
output for another crop of the same image. No label is used.
What differs from the paper, for models that learn within minutes:
1. Most of the run is a warm start by contrast (SimCLR, Chen et al. 2020): a fresh teacher knows nothing that a student
   could learn from it. What the head puts out is decorrelated a little all the time, as in VICReg (Bardes et al. 2022).
2. Objects are put into other scenes: crops of one image share its background, and a model that can tell images apart by
   backgrounds need not learn objects. Ryali et al. (2021, "Characterizing and Improving the Robustness of Self-Supervised Learning
   through Background Augmentations") find the object by a saliency model; here the renderer says where it is. Every crop
   holds some of the object. So where objects are is given to these models, and what they are is not.
3. Hues turn further and further, in the end all the way round, as colours would be the next thing to hold on to.
4. Prototypes are random and stay so, the head ends in batch norm, and the teacher uses all prototypes equally often, by Sinkhorn
   normalisation as in SwAV and DINOv2 (Caron et al. 2020, Oquab et al. 2023).
"""

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms.v2.functional import gaussian_blur

from ..train_clip import optimizer_for
from ..training import Checkpoint, arguments, average_into, frozen_copy, loop, set_rate
from ..weights import save
from ..world import natural
from .curves import Curve
from .data import STOCK, Stock, cut_out_batch, drawn, empty_scenes
from .models import BUILDERS

STEPS, WARM = 8000, 0.7  # WARM: share of the steps that are contrast
SIZE, GPU_SIZE, RATE = 64, 512, 2e-3
LARGE, SMALL = (2, 48, (0.5, 1.0)), (4, 32, (0.25, 0.6))  # number of crops, side in pixels, share of the image's area
PROTOTYPES = 512
TURN, BLURRED = 0.35, 0.3  # radians to either side; share of the crops
SWAPPED, WITHIN = 0.8, 0.7  # share of the crops in another scene; of half a crop, how far the object's point is from its middle
HARDER = 200, 2000  # steps between which turns, hues and grey crops grow: the hardest alone teach nothing at first
KEEP_TEACHER = 0.99
STUDENT_TEMPERATURE = 0.1
DECORRELATION = 0.05  # weight of that loss
HOLD = 0.75  # share of the run after which the rate falls


def dino_loss(student: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy between crops of the same image: student scores [S, B, P] against teacher probabilities [T, B, P].

    The first T of the student's crops are the teacher's; a crop is not compared with itself.
    """
    log = (student / STUDENT_TEMPERATURE).log_softmax(-1)
    losses = -torch.einsum("tbp,sbp->ts", targets, log) / student.shape[1]
    other = ~torch.eye(len(targets), len(student), dtype=torch.bool, device=student.device)
    return losses[other].mean()


def crops(pixels: Tensor, seen: Tensor, side: int, area: tuple[float, float], turn: float) -> Tensor:
    """One random crop of each image [B, 3, 64, 64], turned, resized to [B, 3, side, side]; half of them are mirrored.

    Each holds some point of what is seen of the objects, bool [B, 1, 64, 64], as a photograph holds what it was taken of.
    """
    n, width = len(pixels), pixels.shape[-1]
    point = torch.multinomial(seen.flatten(1).float() + 1e-6, 1)[:, 0]
    point = (torch.stack([point % width, point // width], 1) + 0.5) / width * 2 - 1  # x, y from -1 to 1
    share = pixels.new_empty(n, 1).uniform_(*area).sqrt()
    ratio = pixels.new_empty(n, 1).uniform_(-0.25, 0.25).exp()  # of width to height, before the square root
    scale = torch.cat([share * ratio.sqrt(), share / ratio.sqrt()], 1).clamp(max=1)
    mirror = torch.where(pixels.new_empty(n).uniform_() < 0.5, -1.0, 1.0)
    angle = pixels.new_empty(n).uniform_(-turn, turn)
    theta = pixels.new_empty(n, 2, 3)
    theta[:, 0, 0], theta[:, 0, 1] = scale[:, 0] * mirror * angle.cos(), -scale[:, 1] * angle.sin()
    theta[:, 1, 0], theta[:, 1, 1] = scale[:, 0] * mirror * angle.sin(), scale[:, 1] * angle.cos()
    reach = WITHIN * scale
    middle = torch.lerp(point - reach, point + reach, torch.rand_like(point))
    theta[:, :, 2] = torch.maximum(torch.minimum(middle, 1 - scale), scale - 1)
    grid = F.affine_grid(theta, [n, 3, side, side], align_corners=False)
    return F.grid_sample(pixels, grid, padding_mode="reflection", align_corners=False)


def recolour(pixels: Tensor, hue: float, grey: float) -> Tensor:
    """Random contrast, brightness, saturation and hue of each image [B, 3, h, w]; some without colour."""
    n = len(pixels)
    contrast, brightness = 1 + pixels.new_empty(2, n).uniform_(-0.5, 0.5)
    saturation = torch.where(pixels.new_empty(n).uniform_() < grey, 0.0, 1 + pixels.new_empty(n).uniform_(-0.5, 0.5))
    angle = pixels.new_empty(n).uniform_(-hue, hue)
    mean, one = pixels.new_full((3, 3), 1 / 3), torch.eye(3, device=pixels.device)
    turn = pixels.new_tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)  # turns colours about the grey axis
    cos, sin, saturation = (x[:, None, None] for x in (angle.cos(), angle.sin(), saturation))
    mix = mean + saturation * (cos * (one - mean) + sin * turn)
    mixed = torch.einsum("bij,bjhw->bihw", mix, pixels) * contrast[:, None, None, None] + 2 * (brightness - 1)[:, None, None, None]
    return mixed.clamp(-2, 2)


def elsewhere(pixels: Tensor, seen: Tensor, swapped: float) -> Tensor:
    """Put what is seen of the objects [B, 1, h, w] of a share of the images [B, 3, h, w] into other scenes."""
    moved = pixels.new_empty(len(pixels), 1, 1, 1).uniform_() < swapped
    return torch.where(seen | ~moved, pixels, empty_scenes(len(pixels), pixels.device))


def blur(pixels: Tensor, blurred: float) -> Tensor:
    """Blur a share of the images [B, 3, h, w], each by a random amount."""
    soft = gaussian_blur(pixels, 7, 1.2)
    amount, chosen = pixels.new_empty(2, len(pixels), 1, 1, 1).uniform_()
    return torch.lerp(pixels, soft, amount * (chosen < blurred))


def views(pixels: Tensor, seen: Tensor, number: int, side: int, area: tuple[float, float], step: int) -> Tensor:
    """Augmented crops of images [B, 3, 64, 64], one image after the other and then again: [number * B, 3, side, side]."""
    hard = min(1.0, max(0.0, (step - HARDER[0]) / (HARDER[1] - HARDER[0])))
    found = []
    for _ in range(number):
        cut = crops(elsewhere(pixels, seen, SWAPPED), seen, side, area, TURN * hard)
        found.append(blur(recolour(cut, 0.1 + hard * (math.pi - 0.1), 0.2 * hard), BLURRED * hard))
    return torch.cat(found).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def sinkhorn(scores: Tensor, temperature: float = 0.05, rounds: int = 3) -> Tensor:
    """Targets of the teacher, [N, P] -> [N, P]: rows add up to one, and every prototype is used as often (Caron et al. 2020)."""
    q = (scores / temperature - (scores / temperature).max()).exp()
    for _ in range(rounds):
        q = q / q.sum(0, keepdim=True).clamp(min=1e-12)
        q = q / q.sum(1, keepdim=True).clamp(min=1e-12)
    return q


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


def contrast_loss(found: Tensor, temperature: float = 0.2) -> Tensor:
    """Which of the other crops [2 * B, D] is of the same image? Cross-entropy, as in SimCLR (Chen et al. 2020)."""
    found = F.normalize(found.float(), dim=1)
    scores = found @ found.T / temperature
    scores.fill_diagonal_(-torch.inf)
    return F.cross_entropy(scores, torch.arange(len(found), device=found.device).roll(len(found) // 2))


@torch.no_grad()
def settle(backbone: nn.Module, batches: int = 8) -> nn.Module:
    """A copy of a backbone on the CPU, ready for use: its batch statistics measured on whole training images, as they are."""
    ready = frozen_copy(backbone)
    for module in ready.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # a plain mean over the batches
    ready.cpu().train()
    for k in range(batches):
        ready(drawn([natural(seed) for seed in range(k * 250, (k + 1) * 250)]))
    return ready.eval()


def run(
    kind: str, out: Path, steps: int, size: int = SIZE, every: int = 1000, warm: float = WARM, device="cpu", images=None
) -> nn.Module:
    """Train, from the checkpoint if there is one, for at most `steps` steps; the teacher's backbone in eval mode, on the CPU.

    warm: the share of the steps that are contrast. images: a `Stock` on the device, by default `cut_out_batch`.
    """
    torch.manual_seed(0)
    student = Network(BUILDERS[f"dino_{kind}"]()).to(device, memory_format=torch.channels_last)
    teacher = frozen_copy(student)
    optimizer = optimizer_for(student.backbone, student.head, RATE, {"vit": "blocks", "resnet": "layer"}[kind])
    curve = Curve(out / f"dino_{kind}.csv", size)

    def distilled(large: Tensor, small: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            targets = sinkhorn(teacher.train()(large)[1]).unflatten(0, (-1, size))
        (found, guesses), (_, more) = student.train()(large), student(small)
        return found, dino_loss(torch.cat([guesses, more]).unflatten(0, (-1, size)), targets)

    def update(step: int) -> dict[str, float]:
        set_rate(optimizer, RATE, step, steps, warm=100, hold=HOLD)
        pixels, seen = (images or cut_out_batch)(step, size)
        large = views(pixels, seen, *LARGE, step)
        small = views(pixels, seen, *SMALL, step) if step >= warm * steps else None
        with torch.autocast(pixels.device.type, torch.bfloat16):
            if small is None:
                found = student.train()(large)[0]
                loss = contrast_loss(found)
            else:
                found, loss = distilled(large, small)
        correlated = correlation_loss(found)
        optimizer.zero_grad()
        (loss + DECORRELATION * correlated).backward()
        nn.utils.clip_grad_norm_(student.parameters(), 3.0)
        optimizer.step()
        speed = min(1.0, (1 - step / steps) / (1 - HOLD))  # the teacher slows down as the rate falls
        average_into(teacher, student, 1 - (1 - KEEP_TEACHER) * speed)
        return {"loss": loss.item(), "correlated": correlated.item()}

    parts = {"student": student, "teacher": teacher, "optimizer": optimizer, "curve": curve}
    checkpoint = Checkpoint(out / f"dino_{kind}.pt", **parts)

    def report(step: int) -> dict[str, float]:
        return curve.report(step, settle(teacher.backbone))

    loop(f"dino_{kind}", checkpoint, steps, update, report, every, keep=int(HOLD * steps))
    return settle(teacher.backbone)


def main():
    args = arguments(__doc__, STEPS, gpu=True, kind=("vit", "resnet"))
    size, images = (SIZE, None) if args.device == "cpu" else (GPU_SIZE, Stock(STOCK, args.device))
    model = run(args.kind, args.out, args.steps, size, device=args.device, images=images)
    save(model, args.out / f"dino_{args.kind}.safetensors")


if __name__ == "__main__":
    main()
