"""The ten drawn scenes of the sandbox, each a background that differs a little from seed to seed."""

from math import sin

import numpy as np
from PIL import Image, ImageDraw

SIZE = 64
_S = 2 * SIZE  # drawn at twice the size, then averaged down
_RAMP = np.linspace(0, 1, _S)[:, None]


def draw_scene(name: str, rng: np.random.Generator) -> Image.Image:
    """Background of one scene, 64 x 64 RGB; `rng` decides horizon, shades and details."""
    return _PAINTERS[name](_Brush(rng)).reduce(2)


class _Brush:
    """A random generator with the few shapes that the scenes are made of."""

    def __init__(self, rng: np.random.Generator):
        self.rng = rng
        self.numbers = iter(rng.random(64).tolist())

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * next(self.numbers)

    def shade(self, rgb, spread: float = 12) -> tuple:
        shift = self.uniform(-spread, spread)
        return tuple(int(min(255, max(0, c + shift))) for c in rgb)

    def gradient(self, top, bottom) -> Image.Image:
        top, bottom = np.array(self.shade(top)), np.array(self.shade(bottom))
        rows = (top + (bottom - top) * _RAMP).astype(np.uint8)
        image = Image.fromarray(rows[:, None]).resize((_S, _S), Image.Resampling.NEAREST)
        self.draw = ImageDraw.Draw(image)
        return image

    def ground(self, horizon: float, rgb) -> None:
        self.draw.rectangle((0, horizon, _S, _S), fill=self.shade(rgb))

    def hills(self, base: float, height: float, rgb) -> None:
        phase, waves = self.uniform(0, 6.28), self.uniform(0.6, 1.6)
        ridge = [(x, base - height * (0.5 + 0.5 * sin(phase + waves * 6.28 * x / _S))) for x in range(0, _S + 1, 8)]
        self.draw.polygon([(0, _S), *ridge, (_S, _S)], fill=self.shade(rgb))

    def disc(self, x: float, y: float, r: float, rgb, squash: float = 1.0) -> None:
        self.draw.ellipse((x - r, y - r * squash, x + r, y + r * squash), fill=rgb)


def _sea(b: _Brush):
    image = b.gradient((165, 205, 240), (215, 235, 250))
    horizon = b.uniform(34, 52)
    b.ground(horizon, (40, 110, 175))
    for row in range(6):
        y, x0 = horizon + 8 + 13 * row, b.uniform(-20, 0)
        for k in range(6):
            x = x0 + 28 * k
            b.draw.arc((x, y, x + 20, y + 10), 200, 340, fill=(190, 220, 240), width=2)
    return image


def _beach(b: _Brush):
    image = b.gradient((150, 210, 245), (225, 240, 250))
    b.disc(b.uniform(10, 118), b.uniform(8, 24), 9, (255, 240, 150))
    horizon = b.uniform(36, 48)
    b.ground(horizon, (70, 165, 195))
    b.hills(horizon + 34, 10, (235, 215, 160))
    for _ in range(8):
        b.disc(b.uniform(0, _S), b.uniform(horizon + 40, _S), 2, (205, 180, 125))
    return image


def _lake(b: _Brush):
    image = b.gradient((190, 215, 225), (225, 235, 225))
    b.hills(b.uniform(36, 46), 16, (110, 150, 105))
    b.ground(46, (135, 175, 110))
    b.disc(b.uniform(54, 74), b.uniform(82, 92), 58, b.shade((85, 145, 185)), 0.48)
    for _ in range(7):
        x, y = b.uniform(0, _S), b.uniform(108, _S)
        b.draw.line((x, y, x + 3, y - 18), fill=(85, 120, 60), width=2)
    return image


def _reef(b: _Brush):
    image = b.gradient((70, 190, 200), (10, 75, 120))
    for _ in range(6):
        x, y, r = b.uniform(0, _S), b.uniform(0, 100), b.uniform(2, 5)
        b.draw.ellipse((x - r, y - r, x + r, y + r), outline=(190, 235, 240), width=1)
    for _ in range(6):
        x, h = b.uniform(0, _S), b.uniform(20, 44)
        b.draw.line((x, _S, x - 5, _S - h / 2, x + 4, _S - h), fill=(25, 130, 95), width=4)
    b.hills(124, 8, (200, 140, 120))
    return image


def _forest(b: _Brush):
    image = b.gradient((185, 215, 190), (120, 160, 115))
    b.ground(b.uniform(84, 100), (95, 115, 60))
    for k in range(8):
        x, y = 18 * k + b.uniform(-6, 6), b.uniform(80, 112)
        w, h = b.uniform(11, 17), b.uniform(50, 78)
        b.draw.rectangle((x - 2, y, x + 2, y + 10), fill=(85, 60, 40))
        b.draw.polygon([(x - w, y), (x, y - h), (x + w, y)], fill=b.shade((35, 95, 50)))
    return image


def _desert(b: _Brush):
    image = b.gradient((250, 205, 140), (250, 230, 185))
    b.hills(b.uniform(66, 78), 18, (225, 170, 95))
    b.hills(b.uniform(92, 104), 16, (205, 145, 75))
    for _ in range(2):
        x, y = b.uniform(10, 118), b.uniform(80, 116)
        b.draw.line((x, y, x, y - 28), fill=(70, 125, 70), width=5)
        b.draw.line((x - 9, y - 22, x - 9, y - 14, x + 9, y - 14, x + 9, y - 24), fill=(70, 125, 70), width=4)
    return image


def _meadow(b: _Brush):
    image = b.gradient((160, 205, 245), (215, 235, 250))
    b.disc(b.uniform(16, 112), b.uniform(10, 22), 14, (245, 248, 252), 0.55)
    b.hills(b.uniform(52, 64), 10, (125, 190, 85))
    for k in range(12):
        x, y = b.uniform(0, _S), b.uniform(68, 124)
        b.disc(x, y, 3, ((245, 225, 90), (240, 245, 250), (230, 140, 170))[k % 3])
    return image


def _mountains(b: _Brush):
    image = b.gradient((175, 195, 225), (230, 235, 240))
    for k in range(3):
        x, y, w = 22 + 42 * k + b.uniform(-12, 12), b.uniform(10, 36), b.uniform(38, 54)
        b.draw.polygon([(x - w, 112), (x, y), (x + w, 112)], fill=b.shade((120, 122, 135)))
        b.draw.polygon([(x - 0.22 * w, y + 0.22 * (112 - y)), (x, y), (x + 0.22 * w, y + 0.22 * (112 - y))], fill=(240, 244, 250))
    b.ground(b.uniform(98, 108), (110, 130, 95))
    return image


def _city(b: _Brush):
    image = b.gradient((190, 195, 215), (225, 215, 215))
    for k in range(6):
        x, y, w = 22 * k + b.uniform(-4, 4), b.uniform(14, 66), b.uniform(17, 24)
        b.draw.rectangle((x, y, x + w, 108), fill=b.shade((115, 110, 130), 28))
        for wy in range(int(y) + 5, 100, 11):
            for wx in (x + 3, x + 11):
                b.draw.rectangle((wx, wy, wx + 4, wy + 5), fill=(240, 225, 150))
    b.ground(108, (75, 75, 80))
    b.draw.line((0, 118, _S, 118), fill=(220, 220, 220), width=2)
    return image


def _room(b: _Brush):
    image = b.gradient((235, 215, 200), (225, 200, 185))
    step, x0 = 14, b.uniform(0, 14)
    for k in range(10):
        b.draw.line((x0 + step * k, 0, x0 + step * k, 96), fill=(215, 188, 172), width=3)
    b.ground(96, (150, 105, 70))
    b.draw.line((0, 96, _S, 96), fill=(250, 245, 240), width=4)
    x, y = b.uniform(6, 84), b.uniform(8, 20)
    b.draw.rectangle((x, y, x + 36, y + 40), fill=(190, 225, 245), outline=(250, 250, 250), width=4)
    b.draw.line((x + 18, y, x + 18, y + 40), fill=(250, 250, 250), width=3)
    return image


_PAINTERS = {
    "sea": _sea, "beach": _beach, "lake": _lake, "reef": _reef, "forest": _forest,
    "desert": _desert, "meadow": _meadow, "mountains": _mountains, "city": _city, "room": _room,
}  # fmt: skip
