"""The renderer of the sandbox: from specs to pixels and masks, in batches, the same for the same spec."""

import math
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageFilter
from torch import Tensor

from .glyphs import stamps
from .scenes import SIZE, draw_scene
from .world import COLOURS, FACTORS, OBJECTS, Spec, balanced

SLOTS = 4  # objects in an image, at most
KEPT = 4096  # images that `rendered` keeps, of about 20 KB each
_kept: dict[Spec, tuple[np.ndarray, np.ndarray]] = {}  # pixels and masks
BACKGROUNDS = 100  # drawn for each scene; mirroring doubles them
SIZES = {"small": (28, 38), "medium": (40, 50), "large": (52, 63)}  # pixels of an object's side
_OVERHANG = 6  # pixels by which an object may leave the image
_TURN = 0.35  # radians, to either side
_GREY = torch.tensor([0.299, 0.587, 0.114]).float()  # whatever torch's default is: pixels are drawn in single precision
_SEPIA = torch.tensor([1.08, 0.88, 0.65]).float()
_LIGHT = {"day": (1.0, 1.0, 1.0), "dusk": (1.0, 0.72, 0.6), "night": (0.5, 0.55, 0.78)}


class Rendered(NamedTuple):
    """One sandbox image and everything that is true of it."""

    pixels: np.ndarray  # uint8 [64, 64, 3]
    masks: np.ndarray  # bool [objects, 64, 64]: what is seen of each, the spec's own object and its copies first
    factors: Spec

    @property
    def mask(self) -> np.ndarray:
        """bool [64, 64]: where any object is seen."""
        return self.masks.any(axis=0)

    @property
    def image(self) -> Image.Image:
        return Image.fromarray(self.pixels)


def render(spec_or_seed: Spec | int) -> Rendered:
    """Draw one image: pixels, a mask for each object, and its factors. An integer stands for `balanced(seed)`."""
    return rendered([spec_or_seed if isinstance(spec_or_seed, Spec) else balanced(spec_or_seed)])[0]


def rendered(specs: Sequence[Spec]) -> list[Rendered]:
    """Draw many images at once: as `render` of each. The last KEPT of them are not drawn again when they are asked for again."""
    found = {spec: _kept.get(spec) for spec in specs}
    if new := [spec for spec, known in found.items() if known is None]:
        pixels, masks = (each.numpy() for each in draw(new, masks=True))
        for spec, p, m in zip(new, pixels, masks):
            found[spec] = _kept[spec] = np.moveaxis(p, 0, -1).copy(), m[: spec.count + len(spec.others)].copy()
        for spec in list(_kept)[:-KEPT]:
            _kept.pop(spec, None)
    return [Rendered(*(part.copy() for part in found[spec]), spec) for spec in specs]


@torch.no_grad()
def draw(specs: Sequence[Spec], masks: bool = False) -> Tensor | tuple[Tensor, Tensor]:
    """Draw many images at once: uint8 [B, 3, 64, 64], and with masks=True what is seen of each object, bool [B, 4, 64, 64]."""
    layouts = [_layout(spec) for spec in specs]
    image = torch.stack([backgrounds()[spec.scene][layout.background] for spec, layout in zip(specs, layouts)]).float() / 255
    mirrored = torch.tensor([layout.mirrored for layout in layouts])
    image[mirrored] = image[mirrored].flip(3)
    image *= torch.tensor([layout.brightness for layout in layouts]).float()[:, None, None, None]
    seen = torch.zeros(len(specs), SLOTS, SIZE, SIZE, dtype=torch.bool)
    for slot in reversed(range(SLOTS)):  # the first object is drawn last, over the others
        rows = [k for k, layout in enumerate(layouts) if len(layout.things) > slot]
        if rows:
            things = [layouts[k].things[slot] for k in rows]
            inside, outlined = _stamp(image, rows, things, [specs[k].texture for k in rows])
            if masks:
                seen[rows] &= ~outlined[:, None]
                seen[rows, slot] = inside
    _weather(image, specs)
    image *= torch.tensor([_LIGHT[spec.light] for spec in specs]).float()[:, :, None, None]
    for style in FACTORS["style"][1:]:
        rows = [k for k, spec in enumerate(specs) if spec.style == style]
        grey = (image[rows] * _GREY[:, None, None]).sum(1, keepdim=True).expand(-1, 3, -1, -1)
        image[rows] = grey * _SEPIA[:, None, None] if style == "sepia" else grey
    pixels = (image.clamp_(0, 1) * 255).round_().byte()
    return (pixels, seen) if masks else pixels


class _Thing(NamedTuple):
    kind: int
    colour: str
    x: float  # centre, in pixels
    y: float
    size: float  # side of the cell, in pixels
    angle: float  # radians
    flip: float  # -1 where mirrored
    shade: tuple[float, float, float]


class _Layout(NamedTuple):
    things: list[_Thing]
    background: int
    mirrored: bool
    brightness: float


def _layout(spec: Spec) -> _Layout:
    """Where the objects of a spec are, and all else that its seed decides."""
    take = iter(np.random.default_rng([spec.seed, 3]).random(48).tolist())

    def between(low: float, high: float) -> float:
        return low + (high - low) * next(take)

    named = [(spec.object, spec.colour)] * spec.count + list(spec.others)
    shade = (between(-0.05, 0.05), between(-0.05, 0.05), between(-0.05, 0.05))
    background, mirrored, brightness = int(next(take) * BACKGROUNDS), next(take) < 0.5, between(0.85, 1.15)
    if spec.others:
        sizes, places = _together(spec, between)
    elif spec.count > 1:
        sizes, places = _copies(spec, between)
    else:
        size = between(*SIZES[spec.size])
        sizes, places = [size], [tuple(_coordinate(spec.place, axis, size, between) for axis in ("x", "y"))]
    things = [
        _Thing(OBJECTS.index(kind), colour, x, y, size, between(-_TURN, _TURN), 1.0 if next(take) < 0.5 else -1.0, shade)
        for (kind, colour), size, (x, y) in zip(named, sizes, places)
    ]
    return _Layout(things, background, mirrored, brightness)


def _coordinate(place: str, axis: str, size: float, between) -> float:
    """Centre of a single object along one axis: off the middle by as much as there is room, or near the middle."""
    low, high = (("left", "right"), ("top", "bottom"))[axis == "y"]
    room = SIZE / 2 - size / 2 + _OVERHANG
    offset = between(min(8, 0.6 * room), room)
    if low in place:
        return SIZE / 2 - offset
    if high in place:
        return SIZE / 2 + offset
    return SIZE / 2 + between(-3, 3)


def _together(spec: Spec, between) -> tuple[list[float], list[tuple[float, float]]]:
    """Sizes and centres of two or three kinds of object, the first two in the spec's relation."""
    n = 1 + len(spec.others)
    sizes = [between(30, 38) if n == 2 else between(27, 33) for _ in range(n)]
    if spec.relation == "in front of":
        middle = between(28, 36) if n == 2 else between(22, 26), between(28, 36) if n == 2 else between(22, 26)
        far, turn = 0.42 * (sizes[0] + sizes[1]) / 2, between(0, 2 * math.pi)
        places = [middle, (middle[0] + far * math.cos(turn), middle[1] + far * math.sin(turn))]
        third = (between(46, 50), between(46, 50))
    else:
        near, away = between(15, 19), between(45, 49)
        across = [between(26, 38) if n == 2 else between(15, 21) for _ in range(2)]
        along = (near, away) if spec.relation in ("left of", "above") else (away, near)
        places = [(a, b) if spec.relation in ("left of", "right of") else (b, a) for a, b in zip(along, across)]
        side = (between(24, 40), between(44, 49))
        third = side if spec.relation in ("left of", "right of") else side[::-1]
    return sizes, [*places, third][:n]


def _copies(spec: Spec, between) -> tuple[list[float], list[tuple[float, float]]]:
    """Sizes and centres of two to four copies: all of one size, side by side or in corners."""
    largest = {2: 33, 3: 31, 4: 30}[spec.count]
    share = {"small": (0.68, 0.76), "medium": (0.78, 0.88), "large": (0.9, 1.0)}[spec.size]
    size = largest * between(*share)
    corners = [(17, 17), (47, 47), (47, 17), (17, 47)]
    if spec.count == 2 and (across := between(0, 1)) < 0.67:  # else in opposite corners
        corners = [(17, 32), (47, 32)] if across < 0.33 else [(32, 17), (32, 47)]
    start = int(between(0, 4)) if spec.count == 3 else 0  # which corner stays free
    centres = (corners[start:] + corners[:start])[: spec.count]
    if spec.count == 2 and between(0, 1) < 0.5:
        centres = [(SIZE - x, y) for x, y in centres]
    loose = (largest + 4 - size) / 2
    return [size] * spec.count, [(x + between(-loose, loose), y + between(-loose, loose)) for x, y in centres]


@cache
def backgrounds() -> dict[str, Tensor]:
    """uint8 [BACKGROUNDS, 3, 64, 64] for each scene."""

    def background(scene: str, k: int) -> Tensor:
        return torch.from_numpy(np.array(draw_scene(scene, np.random.default_rng([k, 5])))).movedim(-1, 0)

    return {scene: torch.stack([background(scene, k) for k in range(BACKGROUNDS)]) for scene in FACTORS["scene"]}


@cache
def _stamps() -> Tensor:
    return stamps()


_AXIS = torch.arange(SIZE).float() + 0.5
_RGB = {name: torch.tensor(rgb).float() / 255 for name, rgb in COLOURS.items()}


def _stamp(image: Tensor, rows: list[int], things: list[_Thing], textures: list[str]) -> tuple[Tensor, Tensor]:
    """Draw one object into each of the rows of `image`; where it is without and with its outline, bool [rows, 64, 64]."""
    x, y, size, angle, flip = torch.tensor([(t.x, t.y, t.size, t.angle, t.flip) for t in things]).float().T[..., None, None]
    dx, dy = _AXIS[None, None, :] - x, _AXIS[None, :, None] - y
    u, v = flip * (angle.cos() * dx + angle.sin() * dy), angle.cos() * dy - angle.sin() * dx  # in the object's own axes
    grid = torch.stack([u, v], -1) / (size[..., None] / 2)
    kinds = torch.tensor([t.kind for t in things])
    coverage, widened = F.grid_sample(_stamps()[kinds], grid, align_corners=False).unbind(1)
    first = (torch.stack([_RGB[t.colour] for t in things]) + torch.tensor([t.shade for t in things]).float()).clamp(0, 1)
    black = torch.tensor([t.colour == "black" for t in things])[:, None]
    second = torch.where(black, first + 0.4, first / 2)
    rim = torch.where((first * _GREY).sum(1) > 0.72, 0.14, 0.98).float()[:, None, None, None]
    pattern = _pattern(textures, u, v, size)[:, None]
    fill = torch.where(pattern, second[..., None, None], first[..., None, None])
    canvas = torch.lerp(image[rows], rim.expand(-1, 3, SIZE, SIZE), widened[:, None])
    image[rows] = torch.lerp(canvas, fill, coverage[:, None])
    return coverage > 0.5, widened > 0.5


def _pattern(textures: list[str], u: Tensor, v: Tensor, size: Tensor) -> Tensor:
    """Where a fill shows its second tone, bool; patterns turn and grow with their objects, never finer than 5 pixels."""
    period = (size / 6).clamp(min=5)
    p, q = u / period, v / period
    on = torch.zeros(u.shape, dtype=torch.bool)
    draw = {
        "striped": lambda p, q: (p + q) % 1 < 0.5,
        "checkered": lambda p, q: (p.floor() + q.floor()) % 2 == 1,
        "dotted": lambda p, q: (p % 1 - 0.5) ** 2 + (q % 1 - 0.5) ** 2 < 0.1,
    }
    for texture, where in draw.items():
        chosen = [k for k, name in enumerate(textures) if name == texture]
        on[chosen] = where(p[chosen], q[chosen])
    return on


def _weather(image: Tensor, specs: Sequence[Spec]) -> None:
    """Draw rain, snow or fog over the images, in place."""
    for k, spec in enumerate(specs):
        if spec.weather == "fog":
            image[k].lerp_(torch.tensor(0.8).float(), 0.45)
        elif spec.weather != "clear":
            numbers = np.random.default_rng([spec.seed, 4]).random((45, 2)) * SIZE
            x, y = torch.from_numpy(numbers).long().T
            if spec.weather == "snow":
                steps, white = [(0, 0), (1, 0), (0, 1), (1, 1)], 1.0
            else:
                steps, white = [(0, 0), (0, 1), (-1, 2), (-1, 3), (-2, 4), (-2, 5)], 0.9
            for right, down in steps:
                image[k, :, (y + down) % SIZE, (x + right) % SIZE] = white


UNSEEN_STYLES = ("sketch", "negative")  # no training image has them


def restyle(pixels: np.ndarray, style: str) -> np.ndarray:
    """uint8 pixels [64, 64, 3] in a style that training never saw: "sketch", dark outlines on white, or "negative".

    Raises ValueError for another style.
    """
    if style == "negative":
        return 255 - pixels
    if style != "sketch":
        raise ValueError(f"unknown style {style!r}; choose one of {', '.join(UNSEEN_STYLES)}")
    padded = Image.fromarray(np.pad(pixels, ((1, 1), (1, 1), (0, 0)), mode="edge")).convert("L")
    edges = np.asarray(padded.filter(ImageFilter.FIND_EDGES))[1:-1, 1:-1].astype(int)  # the filter leaves the rim as it is
    return np.repeat((255 - np.minimum(255, 2 * edges)).astype(np.uint8)[..., None], 3, axis=2)
