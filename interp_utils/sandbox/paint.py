"""The sandbox as a text-to-image model: what a description names is drawn, everything else is left to chance."""

import re
from functools import cache

from . import captions
from .captions import SYNONYMS, noun_phrase, plural
from .render import Rendered, rendered
from .world import FACTORS, OBJECTS, OPPOSITE, RELATIONS, balanced

PAINTED = 5 * 10**8  # seeds of painted images start here
_TABLES = {**captions.WORDS, "count": captions.COUNTS, "style": captions.STYLES}


@cache
def _phrases() -> tuple[re.Pattern, dict[str, tuple[str, object]]]:
    """A pattern of all phrases that mean something, the longest first, and the fact that each stands for."""
    meaning: dict[str, tuple[str, object]] = {}
    for name in OBJECTS:
        for noun in (name, *SYNONYMS.get(name, ())):
            meaning |= {words: ("object", name) for words in (noun, plural(noun), f"pair of {noun}")}
    for factor, table in _TABLES.items():
        meaning |= {words: (factor, value) for value, options in table.items() for words in options}
    for value, (where, itself) in captions.SCENES.items():
        meaning |= {words: ("scene", value) for words in (*where, *itself, value)}
    meaning |= {words: ("relation", words) for words in (*RELATIONS, *OPPOSITE.values())}
    words = sorted(meaning, key=len, reverse=True)
    return re.compile(r"\b(?:" + "|".join(map(re.escape, words)) + r")\b"), meaning


def read(text: str) -> list[tuple[str, object]]:
    """The facts that a description in the sandbox's English names, in the order in which they come."""
    pattern, meaning = _phrases()
    return [meaning[found] for found in pattern.findall(" ".join(text.casefold().split()))]


def describe(facts: dict[str, object]) -> str:
    """A description that `paint` draws as meant: {"object": "dog", "scene": "sea"} -> "a dog on the sea".

    facts: the object, and any of the other factors and "second" and "third", further kinds of object.
    """
    adjectives = tuple(captions.WORDS[factor][facts[factor]][0] for factor in ("size", "texture", "colour") if factor in facts)
    count = facts.get("count", 1)
    words = [noun_phrase(facts["object"], count, adjectives, captions.COUNTS[count][0] if "count" in facts else None)]
    words += [f"and {noun_phrase(facts[other], 1)}" for other in ("second", "third") if other in facts]
    words += [captions.PLACES[facts["place"]][0]] if "place" in facts else []
    words += [captions.SCENES[facts["scene"]][0][0]] if "scene" in facts else []
    words += [captions.WORDS[factor][facts[factor]][0] for factor in ("weather", "light") if factor in facts]
    return " ".join([f"a {captions.STYLES[facts['style']][0]} of", *words] if "style" in facts else words)


def paint(text: str, n: int = 1, seed: int = 0) -> list[Rendered]:
    """Draw n images of a description such as "two red dogs on the beach"; what it does not say is drawn at random.

    A colour belongs to the object that comes next. Further kinds of object stand beside one copy of the first, in the
    relation that the text gives or in any. Raises ValueError where the description names no object, four kinds of object,
    several kinds and a number, or two values of one factor.
    """
    given, kinds, colour, relation = {}, {}, None, None
    for factor, value in read(text):
        clash = None
        if factor == "colour":
            clash, colour = (colour if colour not in (None, value) else None), value
        elif factor == "object":
            kinds[value], colour = colour or kinds.get(value), None
        elif factor == "relation":
            relation = value if value in RELATIONS else next(name for name, turned in OPPOSITE.items() if turned == value)
            if relation != value:  # "a behind b" is "b in front of a"
                kinds["behind"] = None
        else:
            clash = given[factor] if given.get(factor, value) != value else None
            given[factor] = value
        if clash is not None:
            raise ValueError(f"{text!r} names {clash!r} and {value!r}; one image can show only one of them")
    behind = kinds.pop("behind", kinds) is None
    if not kinds:
        raise ValueError(f"{text!r} names no object of the sandbox; name one of {', '.join(OBJECTS)}")
    if len(kinds) > 3:
        raise ValueError(f"{text!r} names {', '.join(kinds)}; one image can show three kinds of object")
    names = list(kinds)
    if behind and len(names) > 1:
        names[:2] = names[1::-1]
    if colour is not None:  # "a dog, something red"
        kinds[names[0]] = kinds[names[0]] or colour
    if len(names) > 1 and given.setdefault("count", 1) != 1:
        raise ValueError(f"{text!r} names several kinds of object and the number {given['count']}; say one or the other")
    given["object"] = names[0]
    if kinds[names[0]]:
        given["colour"] = kinds[names[0]]
    return rendered(
        [_with_others(PAINTED + seed * 10**5 + k, given, {name: kinds[name] for name in names[1:]}, relation) for k in range(n)]
    )


def _with_others(seed: int, given: dict, others: dict[str, str | None], relation: str | None):
    """A spec with some factors given; the colours of other objects and the relation are drawn where they are not."""
    spec = balanced(seed, **given)
    if not others:
        return spec
    number = spec.seed * 7919
    colours = FACTORS["colour"]
    pairs = tuple((kind, colour or colours[(number + 3 * k) % len(colours)]) for k, (kind, colour) in enumerate(others.items()))
    return balanced(seed, **{**given, "count": 1}, others=pairs, relation=relation or RELATIONS[number % len(RELATIONS)])
