"""Images that a latent fixes: z -> rotated coordinates -> known factors -> pixels, each step continuous in z.

A coordinate of z means nothing by itself: a random rotation mixes them before the normal CDF turns each into a factor between 0
and 1. So what a unit of a generator that learned these images stands for is known, and no axis of z gives it away.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .. import world
from ..glyphs import stamps
from ..render import backgrounds

KINDS = ("fish", "cat", "rocket", "apple", "car", "star", "guitar", "key", "umbrella", "tree")
SCENES = ("sea", "desert", "meadow", "mountains", "city", "room")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white")
Z = 32  # dimensions of a latent; normal, cut off at -1 and 1
SHARP = 14.0  # of the soft choices of scene and colour
SMALL, LARGE = 26.0, 48.0  # pixels of an object's side
SIZE = 64
_OVERHANG = 3  # pixels by which an object may leave the image
_LOW = float(torch.special.ndtr(torch.tensor(-1.0).float()))
_STD = 0.5397  # of a standard normal cut off at -1 and 1


class Factors(NamedTuple):
    """What a latent stands for, for B images. Places and sizes in pixels."""

    places: Tensor  # [B, 2, 2]: x and y of the first object and of its copy
    sizes: Tensor  # [B]
    present: Tensor  # [B, 2] from 0 to 1: is the first object there, is its copy?
    scenes: Tensor  # [B, scenes], a soft choice
    colours: Tensor  # [B, colours], a soft choice
    offsets: Tensor  # [B, 2]: where the background is cut out
    light: Tensor  # [B], from 0.8 to 1.2


def sample(n: int, generator: torch.Generator | None = None) -> Tensor:
    """Latents [n, Z], standard normal cut off at -1 and 1."""
    return torch.special.ndtri(torch.rand(n, Z, generator=generator, dtype=torch.float32) * (1 - 2 * _LOW) + _LOW)


@cache
def _rotation() -> Tensor:
    q, r = np.linalg.qr(np.random.default_rng(0).standard_normal((Z, Z)))
    return torch.from_numpy(q * np.sign(np.diag(r))).float()


def factors(z: Tensor) -> Factors:
    """The factors of latents [B, Z]. Raises ValueError for another shape."""
    if z.ndim != 2 or z.shape[1] != Z:
        raise ValueError(f"need latents [B, {Z}], got {list(z.shape)}")
    turned = z.float() @ _rotation().to(z.device).T / _STD
    u = torch.special.ndtr(turned)
    sizes = SMALL + (LARGE - SMALL) * u[:, 2]
    present = torch.stack([_step(u[:, 3], 0.08), _step(u[:, 3], 0.68)], 1)
    sizes = torch.lerp(sizes, sizes.clamp(max=30), present[:, 1])  # two copies are small enough to stand side by side
    room = (SIZE / 2 + _OVERHANG - sizes / 2)[:, None]  # for a centre, to either side of the middle
    first = SIZE / 2 + room * (2 * u[:, 0:2] - 1)
    second = _apart(first, SIZE / 2 + room * (2 * u[:, 4:6] - 1), sizes)
    n = len(SCENES)
    return Factors(
        torch.stack([first, second], 1), sizes, present,
        (SHARP * turned[:, 6 : 6 + n]).softmax(1), (SHARP * turned[:, 6 + n : 6 + n + len(COLOURS)]).softmax(1),
        torch.stack([8 * (2 * u[:, 21] - 1), 5 * (2 * u[:, 20] - 1)], 1), 0.8 + 0.4 * u[:, 22],
    )  # fmt: skip


def _step(u: Tensor, at: float, width: float = 0.04) -> Tensor:
    return ((u - at) / width + 0.5).clamp(0, 1)


def _apart(first: Tensor, second: Tensor, least: Tensor) -> Tensor:
    """The second place, pushed away from the first to a least distance, inside the frame."""
    away = second - first
    distance = away.norm(dim=1).clamp(min=1e-3)
    return (first + away * (torch.maximum(distance, least) / distance)[:, None]).clamp(12, 52)


@cache
def _scenes() -> Tensor:
    return torch.stack([backgrounds()[scene][3] for scene in SCENES]).float() / 255


@cache
def _shapes() -> Tensor:
    return stamps()[[world.OBJECTS.index(kind) for kind in KINDS]]


@torch.no_grad()
def picture(known: Factors, kinds: Tensor) -> tuple[Tensor, Tensor]:
    """Images [B, 3, 64, 64] in 0..1 of objects of some kinds [B], and soft masks [B, 2, 64, 64] of the object and its copy."""
    device = known.places.device
    theta = torch.zeros(len(kinds), 2, 3, device=device, dtype=torch.float32)
    theta[:, 0, 0] = theta[:, 1, 1] = 1
    theta[:, :, 2] = known.offsets / 32
    image = torch.einsum("bs,schw->bchw", known.scenes, _scenes().to(device))
    grid = F.affine_grid(theta, list(image.shape), align_corners=False)
    image = F.grid_sample(image, grid, padding_mode="border", align_corners=False) * known.light[:, None, None, None]
    fill = known.colours @ (torch.tensor([world.COLOURS[name] for name in COLOURS], device=device).float() / 255)
    bright = (fill @ fill.new_tensor([0.299, 0.587, 0.114]) - 0.72) / 0.03
    rim = torch.lerp(fill.new_tensor(0.98), fill.new_tensor(0.14), bright.sigmoid())
    masks = []
    for copy in (1, 0):  # the first object is drawn last, over its copy
        inside, widened = _stamp(kinds, known.places[:, copy], known.sizes).unbind(1)
        inside, widened = (part * known.present[:, copy, None, None] for part in (inside, widened))
        image = torch.lerp(image, rim[:, None, None, None].expand_as(image), widened[:, None])
        image = torch.lerp(image, fill[:, :, None, None].expand_as(image), inside[:, None])
        masks.insert(0, inside)
    return image.clamp(0, 1), torch.stack(masks, 1)


def _stamp(kinds: Tensor, places: Tensor, sizes: Tensor) -> Tensor:
    """Coverage and widened coverage [B, 2, 64, 64] of objects at free places [B, 2] and sizes [B], averaged over four points."""
    points = (torch.arange(2 * SIZE, device=places.device).float() + 0.5) / 2
    x = (points[None, None, :] - places[:, 0, None, None]) / (sizes[:, None, None] / 2)
    y = (points[None, :, None] - places[:, 1, None, None]) / (sizes[:, None, None] / 2)
    grid = torch.stack(torch.broadcast_tensors(x, y), 3)
    return F.avg_pool2d(F.grid_sample(_shapes().to(places.device)[kinds], grid, align_corners=False), 2)
