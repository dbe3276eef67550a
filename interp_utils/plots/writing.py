"""Characters that the figures' own font lacks: another font of the machine draws them, else their names stand in their place."""

import unicodedata
from collections.abc import Iterator
from functools import lru_cache

from matplotlib.artist import Artist
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.text import Text
from matplotlib.ticker import FixedFormatter, Formatter, FuncFormatter

EVERY_SCRIPT = ("cjk", "gothic", "hei", "ming", "sans", "emoji", "symbol", "unicode")  # in the names of fonts that hold much


def writable(figure: Figure) -> None:
    """Give the texts of a figure, and labels of ticks with words of their own, fonts and characters with which they can be read.

    No text that is there is read as mathematics.
    """
    for part in _parts(figure):
        if isinstance(part, Axis):
            words = part.get_major_formatter()
            if type(words) in (FuncFormatter, FixedFormatter):  # which would write their own words again while drawing
                part.set_major_formatter(_Spelled(words))
        elif isinstance(part, Text):
            part.set_parse_math(False)
            given = part.get_text()
            if not given.isascii():
                part.set_text(spelled(given))
                part.set_fontfamily([*part.get_fontfamily(), *fonts(given)])


def _parts(artist: Artist) -> Iterator[Artist]:
    """An artist and all that it draws. Axes that are off would make all their ticks, for nobody, if they were asked for them."""
    yield artist
    for child in artist.get_children():
        if not (isinstance(child, Axis) and not child.axes.axison):
            yield from _parts(child)


def spelled(text: str) -> str:
    """A text with each character that no font of this machine has as its name, such as [cat], or its number, as [U+732B]."""
    return "".join(c if c.isascii() or _font(c) is not None else _name(c) for c in text)


def fonts(text: str) -> list[str]:
    """The families, besides the figures' own, that the characters of a text need."""
    return [*dict.fromkeys(filter(None, map(_font, text)))]


class _Spelled(Formatter):
    """Labels of ticks as another formatter has them, spelled."""

    def __init__(self, words: Formatter):
        self.words = words

    def __call__(self, x, pos=None) -> str:
        return spelled(str(self.words(x, pos)))  # some are numbers


def _name(character: str) -> str:
    if unicodedata.category(character) in ("Cf", "Mn", "Me"):  # which change or join others
        return ""
    name = unicodedata.name(character, "").lower()
    return f"[{name}]" if name and "ideograph" not in name else f"[U+{ord(character):X}]"


@lru_cache(4096)
def _font(character: str) -> str | None:
    """The family that draws a character: "" for the figures' own, None for none."""
    if character.isspace() or _has(findfont(FontProperties()), character):
        return ""
    return next((name for name, path in _others() if _has(path, character)), None)


def _others() -> list[tuple[str, str]]:
    """Family and file of the machine's upright fonts, those that hold much first."""
    found = {font.name: font.fname for font in fontManager.ttflist if font.style == "normal"}
    return sorted(found.items(), key=lambda item: (not any(word in item[0].lower() for word in EVERY_SCRIPT), item))


@lru_cache(4096)
def _has(path: str, character: str) -> bool:
    try:
        font = get_font(path)
        return font.scalable and font.get_char_index(ord(character)) != 0
    except (OSError, RuntimeError):  # a font of coloured bitmaps, or none
        return False
