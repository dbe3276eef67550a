"""The sandbox as a text-to-image model: what a description names is drawn, everything else is left to chance."""

import re
from functools import cache

from .captions import _COUNTS, _PLACES, _SCENES, _STYLES, _TEXTURES, noun_phrase
from .render import Rendered, render
from .world import COLOURS, OBJECTS, balanced

PAINTED = 5 * 10**8  # seeds of painted images start here


@cache
def _phrases() -> tuple[re.Pattern, dict[str, tuple[str, object]]]:
    """A pattern of all phrases that mean something, the longest first, and the fact that each stands for."""
    meaning: dict[str, tuple[str, object]] = {}
    for name in OBJECTS:
        for words in (name, noun_phrase(name, 1).split(" ", 1)[1], noun_phrase(name, 2)):
            meaning[words.casefold()] = ("object", name)
    for factor, table in (("texture", _TEXTURES), ("place", _PLACES), ("style", _STYLES), ("count", _COUNTS)):
        meaning |= {words: (factor, value) for value, options in table.items() for words in options}
    for value, (where, itself) in _SCENES.items():
        meaning |= {words: ("scene", value) for words in (*where, *itself, value)}
    meaning |= {colour: ("colour", colour) for colour in COLOURS}
    words = sorted(meaning, key=len, reverse=True)
    return re.compile(r"\b(?:" + "|".join(map(re.escape, words)) + r")\b"), meaning


def read(text: str) -> list[tuple[str, object]]:
    """The facts that a description in the sandbox's English names, in the order in which they come."""
    pattern, meaning = _phrases()
    return [meaning[found] for found in pattern.findall(" ".join(text.casefold().split()))]


def describe(facts: dict[str, object]) -> str:
    """A description that `paint` draws as meant: {"object": "dog", "scene": "sea"} -> "a dog on the sea".

    facts: the object, and any of colour, texture, count, place, scene, style and "second", a second kind of object.
    """
    adjectives = [_TEXTURES[facts["texture"]][0]] if "texture" in facts else []
    adjectives += [facts["colour"]] if "colour" in facts else []
    count = facts.get("count", 1)
    words = [noun_phrase(facts["object"], count, tuple(adjectives), _COUNTS[count][0] if "count" in facts else None)]
    words += [f"and {noun_phrase(facts['second'], 1)}"] if "second" in facts else []
    words += [_PLACES[facts["place"]][0]] if "place" in facts else []
    words += [_SCENES[facts["scene"]][0][0]] if "scene" in facts else []
    return " ".join([f"a {_STYLES[facts['style']][0]} of", *words] if "style" in facts else words)


def paint(text: str, n: int = 1, seed: int = 0) -> list[Rendered]:
    """Draw n images of a description such as "two red dogs on the beach"; what it does not say is drawn at random.

    A colour belongs to the object that comes next. A second kind of object stands beside one copy of the first. Raises
    ValueError where the description names no object, three kinds of object, two kinds and a number, or two values of one factor.
    """
    given, colour = {}, None
    for factor, value in read(text):
        if factor == "colour":
            clash = colour if colour not in (None, value) else None
            colour = value
        elif factor == "object":
            slot = "object" if given.get("object", value) == value else "second"
            clash = given[slot] if given.get(slot, value) != value else None
            given[slot] = value
            if colour is not None:
                given["colour" if slot == "object" else "second_colour"], colour = colour, None
        else:
            clash = given[factor] if given.get(factor, value) != value else None
            given[factor] = value
        if clash is not None:
            raise ValueError(f"{text!r} names {clash!r} and {value!r}; one image can show only one of them")
    if "object" not in given:
        raise ValueError(f"{text!r} names no object of the sandbox; name one of {', '.join(OBJECTS)}")
    if colour is not None:  # "a dog, something red"
        given.setdefault("colour", colour)
    if "second" in given and given.setdefault("count", 1) != 1:
        raise ValueError(f"{text!r} names two kinds of object and the number {given['count']}; say one or the other")
    return [render(balanced(PAINTED + seed * 10**5 + k, **given)) for k in range(n)]
