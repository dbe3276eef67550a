"""The shapes of the objects: glyphs of Font Awesome Free 6 (solid), as soft stamps that the renderer scales and turns."""

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from fontTools.ttLib import TTFont
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from torch import Tensor

from .world import OBJECTS

# Where the font's name of a glyph is not the object's own.
_NAMES = {
    "kiwi bird": "kiwi-bird", "beetle": "bug", "car": "car-side", "fighter jet": "jet-fighter",
    "apple": "apple-whole", "chili pepper": "pepper-hot", "pizza": "pizza-slice", "hot dog": "hotdog", "bread": "bread-slice",
    "ice cream": "ice-cream", "cookie": "cookie-bite", "candy cane": "candy-cane", "cake": "cake-candles", "cup": "mug-hot",
    "wine glass": "wine-glass", "wine bottle": "wine-bottle", "beer": "beer-mug-empty", "cocktail": "martini-glass-citrus",
    "lightning bolt": "bolt", "flower": "spa", "sprout": "seedling", "phone": "mobile-screen",
    "television": "tv", "house": "house-chimney", "stone gate": "dungeon", "factory": "industry", "watchtower": "tower-observation",
    "shop": "store", "wizard hat": "hat-wizard", "cowboy hat": "hat-cowboy", "shopping bag": "bag-shopping",
    "basket": "basket-shopping", "trash can": "trash-can", "soccer ball": "futbol", "dice": "dice-five",
    "puzzle piece": "puzzle-piece", "paper plane": "paper-plane", "chess knight": "chess-knight", "bowling ball": "bowling-ball",
    "magnifying glass": "magnifying-glass", "bathtub": "bath", "light bulb": "lightbulb", "globe": "earth-europe",
}  # fmt: skip
CELL = 64  # pixels of a stamp's side
_MARGIN = 3  # kept free on each side for the outline


def stamps() -> Tensor:
    """Coverage of each object and the same widened by the outline, [kinds, 2, CELL, CELL] from 0 to 1."""
    return _stamps().clone()


@cache
def _stamps() -> Tensor:
    path = Path(find_spec("fontawesomefree").origin).parent / "static/fontawesomefree/webfonts/fa-solid-900.ttf"
    characters = {glyph: character for character, glyph in TTFont(path).getBestCmap().items()}
    font = ImageFont.truetype(str(path), 256)
    cells = []
    for name in OBJECTS:
        character = chr(characters[_NAMES.get(name, name)])
        x0, y0, x1, y1 = font.getbbox(character)
        big = Image.new("L", (x1 - x0, y1 - y0))
        ImageDraw.Draw(big).text((-x0, -y0), character, fill=255, font=font)
        scale = (CELL - 2 * _MARGIN) / max(big.size)
        width, height = (max(1, round(side * scale)) for side in big.size)
        cell = Image.new("L", (CELL, CELL))
        cell.paste(big.resize((width, height), Image.Resampling.BOX), ((CELL - width) // 2, (CELL - height) // 2))
        cells.append(np.stack([np.asarray(cell), np.asarray(cell.filter(ImageFilter.MaxFilter(5)))]))
    return torch.from_numpy(np.stack(cells)).float() / 255
