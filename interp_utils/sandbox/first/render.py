"""The renderer of the sandbox: from a `Spec` to pixels, masks and factors, the same for the same spec."""

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from ..render import Rendered
from ..scenes import SIZE, draw_scene
from .world import COLOURS, Spec, balanced

# Font Awesome Free 6, solid: one private-use code point per glyph (letters and digits are plain ASCII).
GLYPHS = {
    "fish": 0xF578, "shrimp": 0xE448, "frog": 0xF52E, "otter": 0xF700,
    "dog": 0xF6D3, "cat": 0xF6BE, "horse": 0xF6F0, "spider": 0xF717, "bird": 0xF520,
    "car": 0xF5E4, "truck": 0xF0D1, "ship": 0xF21A, "plane": 0xF072, "bicycle": 0xF206,
    "apple": 0xF5D1, "carrot": 0xF787, "pizza": 0xF818, "ice cream": 0xF810,
    "hammer": 0xF6E3, "wrench": 0xF0AD, "scissors": 0xF0C4, "key": 0xF084,
    "star": 0xF005, "heart": 0xF004, "circle": 0xF111, "moon": 0xF186,
    "letter A": 0x41, "letter R": 0x52, "letter Z": 0x5A, "digit 2": 0x32, "digit 4": 0x34, "digit 7": 0x37,
}  # fmt: skip
GRID = 4  # corners of objects lie on this pixel grid


def render(spec_or_seed: Spec | int) -> Rendered:
    """Draw one image: pixels, a mask for each object, and its factors.

    A `Spec` is drawn as asked; an integer stands for `balanced(seed)`. The same argument always gives the same image.
    """
    spec = spec_or_seed if isinstance(spec_or_seed, Spec) else balanced(spec_or_seed)
    rng = np.random.default_rng([spec.seed, 2])
    canvas = draw_scene(spec.scene, rng)
    size, corners = _layout(spec, rng)
    names = [(spec.object, spec.colour)] * spec.count
    if spec.second is not None:
        names.append((spec.second, spec.second_colour))
        if rng.random() < 0.5:
            corners.reverse()
    shift = int(rng.integers(-12, 13))
    masks = np.zeros((len(names), SIZE, SIZE), bool)
    for mask, (name, colour), (x, y) in zip(masks, names, corners):
        glyph = _glyph(name, spec.texture, size)
        first, second, rim = _tones(colour, shift)
        canvas.paste(rim, (x, y), glyph.rim)  # objects stand in cells of their own and never overlap
        canvas.paste(first, (x, y), glyph.coverage)
        canvas.paste(second, (x, y), glyph.pattern)
        mask[y : y + size, x : x + size] = glyph.inside
    return Rendered(np.array(_STYLES[spec.style](canvas)), masks, spec)


class _Glyph(NamedTuple):
    """Paste masks of one glyph, 8-bit images of its cell, and where it is."""

    coverage: Image.Image
    rim: Image.Image  # widened by the outline
    pattern: Image.Image  # the part that shows the second tone
    inside: np.ndarray  # bool [size, size]


@cache
def _font(points: int) -> ImageFont.FreeTypeFont:
    root = Path(find_spec("fontawesomefree").origin).parent
    return ImageFont.truetype(str(root / "static/fontawesomefree/webfonts/fa-solid-900.ttf"), points)


@cache
def _glyph(name: str, texture: str, size: int) -> _Glyph:
    """A glyph scaled to fill a square of `size` pixels, two of them kept free for the outline on each side."""
    char = chr(GLYPHS[name])
    x0, y0, x1, y1 = _font(256).getbbox(char)
    big = Image.new("L", (x1 - x0, y1 - y0))
    ImageDraw.Draw(big).text((-x0, -y0), char, fill=255, font=_font(256))
    scale = (size - 4) / max(big.size)
    width, height = (max(1, round(side * scale)) for side in big.size)
    cell = Image.new("L", (size, size))
    cell.paste(big.resize((width, height), Image.Resampling.BOX), ((size - width) // 2, (size - height) // 2))
    rim = cell.filter(ImageFilter.MaxFilter(3))
    coverage = np.asarray(cell)
    pattern = Image.fromarray(np.where(_texture(texture, size), coverage, 0).astype(np.uint8))
    return _Glyph(cell, rim, pattern, coverage > 127)


def _texture(name: str, size: int) -> np.ndarray:
    """Where a fill shows its second tone, bool [size, size]."""
    y, x = np.mgrid[:size, :size]
    return {
        "solid": np.zeros((size, size), bool),
        "striped": (x + y) % 6 < 3,
        "checkered": (x // 4 + y // 4) % 2 == 1,
        "dotted": (x % 6 - 2.5) ** 2 + (y % 6 - 2.5) ** 2 < 4,
    }[name]


def _tones(colour: str, shift: int) -> tuple[tuple, tuple, tuple]:
    """RGB of a fill, of its second tone (darker, but lighter for black), and of the outline that sets it off."""
    rgb = COLOURS[colour]
    if colour not in ("black", "white", "grey"):
        rgb = tuple(min(255, max(0, c + shift)) for c in rgb)
    second = tuple(c + 95 if colour == "black" else c // 2 for c in rgb)
    bright = 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2] > 185
    return rgb, second, (40, 40, 40) if bright else (250, 250, 250)


def _layout(spec: Spec, rng: np.random.Generator) -> tuple[int, list[tuple[int, int]]]:
    """Size of a cell and the upper left corner of each object's cell, for the count and the place of a spec."""
    n = spec.count + (spec.second is not None)
    size = int(rng.choice((36, 40, 44))) if n == 1 else 28 if n == 2 else 20
    cells = _ARRANGEMENTS[n][int(rng.integers(len(_ARRANGEMENTS[n])))]
    if spec.place in ("left", "right") or (spec.place == "centre" and rng.random() < 0.5):
        cells = [(y, x) for x, y in cells]
    corners = [(GRID * round(size * x / GRID), GRID * round(size * y / GRID)) for x, y in cells]
    free_x, free_y = (SIZE - size - max(c[axis] for c in corners) for axis in (0, 1))
    near = GRID * int(rng.integers(2))
    x = {"left": min(near, free_x), "right": free_x - min(near, free_x)}.get(spec.place, _middle(free_x, rng))
    y = {"top": min(near, free_y), "bottom": free_y - min(near, free_y)}.get(spec.place, _middle(free_y, rng))
    return size, [(x + cx, y + cy) for cx, cy in corners]


# Cells of the objects in units of their size, in a block at least as wide as high: it is turned for left and right.
_ARRANGEMENTS = {
    1: [[(0, 0)]],
    2: [[(0, 0), (1, 0)]],
    3: [[(0, 0), (1, 0), (2, 0)], [(0.6, 0), (0, 1), (1.2, 1)], [(0, 0), (1.2, 0), (0.6, 1)]],
    4: [[(0, 0), (1, 0), (0, 1), (1, 1)], [(0, 0), (1.2, 0), (0, 1.2), (1.2, 1.2)], [(0, 0), (1, 0), (1, 1), (2, 1)]],
    5: [[(0, 0), (1, 0), (2, 0), (0.6, 1), (1.6, 1)], [(0.6, 0), (1.6, 0), (0, 1), (1, 1), (2, 1)]],
}  # fmt: skip


def _middle(free: int, rng: np.random.Generator) -> int:
    """A grid position within one grid step of the middle of the free room."""
    middle = GRID * round(free / 2 / GRID) + GRID * int(rng.integers(-1, 2))
    return min(max(middle, 0), free // GRID * GRID)


_STYLES = {
    "photo": lambda canvas: canvas,
    "sepia": lambda canvas: canvas.convert("RGB", (0.32, 0.628, 0.122, 12, 0.269, 0.528, 0.103, 12, 0.197, 0.387, 0.075, 12)),
    "black and white": lambda canvas: canvas.convert("L").convert("RGB"),
}
