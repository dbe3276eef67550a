"""Plain English for sandbox images: captions that mention some of the factors, and zero-shot prompts.

A caption carries the facts that it claims, so that we always know which captions are true of which images.
"""

from typing import NamedTuple

import numpy as np

from .world import CATEGORIES, CATEGORY_OF, FACTORS, Spec, told_category

FACTS = tuple(
    [("object", name) for name in FACTORS["object"]]
    + [("category", name) for name in (*CATEGORIES, "animal")]
    + [(factor, value) for factor in list(FACTORS)[1:] for value in FACTORS[factor]]
)
_FACT_INDEX = {fact: k for k, fact in enumerate(FACTS)}

_PLURALS = {"fish": "fish", "shrimp": "shrimp", "scissors": "pairs of scissors", "pizza": "pizzas"}
_SINGULARS = {"scissors": "pair of scissors"}
_COUNTS = {1: ("one", "a single"), 2: ("two",), 3: ("three",), 4: ("four",), 5: ("five",)}
_TEXTURES = {
    "solid": ("plain", "solid"),
    "striped": ("striped", "stripy"),
    "checkered": ("checkered", "checked"),
    "dotted": ("dotted", "spotted"),
}
_PLACES = {
    "left": ("on the left", "on the left side"),
    "right": ("on the right", "on the right side"),
    "top": ("at the top", "in the upper part"),
    "bottom": ("at the bottom", "in the lower part"),
    "centre": ("in the middle", "in the centre"),
}
_SCENES = {  # where things are, and the scene itself
    "sea": (("on the sea", "at sea"), ("the sea", "open water with waves")),
    "beach": (("on the beach", "on the sand"), ("a beach", "a sandy shore")),
    "lake": (("at the lake", "by a lake"), ("a lake", "a pond with reeds")),
    "reef": (("under water", "at a reef"), ("an underwater scene", "a reef")),
    "forest": (("in the forest", "among trees"), ("a forest", "many trees")),
    "desert": (("in the desert", "among cactuses"), ("a desert", "sand dunes with a cactus")),
    "meadow": (("in a meadow", "on the grass"), ("a meadow", "grass with flowers")),
    "mountains": (("in the mountains", "below snowy peaks"), ("mountains", "snowy peaks")),
    "city": (("in the city", "on a city street"), ("a city", "buildings with lit windows")),
    "room": (("in a room", "indoors"), ("a room", "a window in a wall")),
}
_STYLES = {
    "photo": ("colour photo", "full-colour picture"),
    "sepia": ("sepia photo", "old sepia picture"),
    "black and white": ("black and white photo", "black and white picture"),
}


class Caption(NamedTuple):
    text: str
    facts: tuple  # ((factor, value), ...) that the text claims


def facts_of(spec: Spec, told: bool = False) -> tuple:
    """All facts that hold for an image, its factors and categories, or with told=True those that training captions hold.

    Colour is a fact of photos alone (the other styles hide it), and count and colour only where there is one kind of object.
    """
    facts = []
    for name in filter(None, (spec.object, spec.second)):
        facts += [("object", name), ("category", told_category(spec, name) if told else CATEGORY_OF[name])]
        if CATEGORY_OF[name].endswith("animal"):
            facts.append(("category", "animal"))
    if spec.second is None:
        facts.append(("count", spec.count))
        if spec.style == "photo":
            facts.append(("colour", spec.colour))
    facts += [(factor, getattr(spec, factor)) for factor in ("texture", "place", "scene", "style")]
    return tuple(dict.fromkeys(facts))


def truth(captions: list[Caption], specs: list[Spec], told: bool = False) -> np.ndarray:
    """bool [captions, specs]: is the caption true of the image, or with told=True, would training captions say so?"""
    claims = np.zeros((len(captions), len(FACTS)), np.float32)
    holds = np.zeros((len(specs), len(FACTS)), np.float32)
    for row, items in [*zip(claims, (c.facts for c in captions)), *zip(holds, (facts_of(spec, told) for spec in specs))]:
        row[[_FACT_INDEX[fact] for fact in items]] = 1
    return claims @ holds.T >= claims.sum(1, keepdims=True) - 0.5


def noun_phrase(noun: str, count: int, adjectives: tuple = (), number: str | None = None) -> str:
    """'a red dog', 'three striped fish', 'an orange pair of scissors', 'apples'."""
    if count > 1:
        plural = f"{noun.split()[0]}s {noun.split()[1]}" if noun.startswith(("letter ", "digit ")) else f"{noun}s"
        return " ".join(filter(None, [number, *adjectives, _PLURALS.get(noun, plural)]))
    words = " ".join([*adjectives, _SINGULARS.get(noun, noun)])
    return f"{number} {words}" if number else f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def caption(spec: Spec, rng: np.random.Generator) -> Caption:
    """A training caption: a random subset of what is told of the image, often the object alone, a single factor, or several."""
    kind = rng.random()
    if spec.category.endswith("animal") and spec.second is None and kind < 0.2:
        return _category_caption(spec, rng)
    if spec.second is not None:
        return _pair_caption(spec, rng) if kind < 0.6 else _factor_caption(spec, rng)
    if kind < 0.35:
        return _with_frame(rng, noun_phrase(spec.object, spec.count), (("object", spec.object),))
    return _factor_caption(spec, rng) if kind < 0.65 else _long_caption(spec, rng)


def prompts(factor: str, value) -> list[str]:
    """Zero-shot prompts of one factor value ("category" included), in the form of captions that training saw."""
    if factor in ("object", "category"):
        one, many = noun_phrase(value, 1), noun_phrase(value, 2)
        return [one, many, f"a picture of {one}", f"a picture of {many}", f"an image with {one}", f"a photo of {one}"]
    return list(dict.fromkeys(text for n in (1, 2) for text in _single_factor_texts(factor, value, n)))


def _pick(rng: np.random.Generator, options):
    return options[int(rng.integers(len(options)))]


def _with_frame(rng: np.random.Generator, text: str, facts: tuple) -> Caption:
    frame = _pick(rng, ("{}", "{}", "a picture of {}", "an image with {}", "a photo of {}"))
    return Caption(frame.format(text), facts)


def _single_factor_texts(factor: str, value, count: int) -> list[str]:
    thing = noun_phrase("object", count)
    if factor == "colour":
        return [noun_phrase("object", count, (value,)), f"something {value}", f"{value} things", f"the colour {value}"]
    if factor == "texture":
        return [f"{'an' if w[0] in 'aeiou' else 'a'} {w} pattern" for w in _TEXTURES[value]] + [
            noun_phrase("object", count, (w,)) for w in _TEXTURES[value]
        ]
    if factor == "count":
        return [f"{n} {'objects' if value > 1 else 'object'}" for n in _COUNTS[value]] + [
            f"an image with {n} {'objects' if value > 1 else 'object'}" for n in _COUNTS[value]
        ]
    if factor == "place":
        return [f"{thing} {where}" for where in _PLACES[value]]
    if factor == "scene":
        return [text for noun in _SCENES[value][1] for text in (noun, f"a picture of {noun}")] + [f"{thing} {_SCENES[value][0][0]}"]
    if factor == "style":
        return [f"{'an' if w[0] in 'aeiou' else 'a'} {w}" for w in _STYLES[value]]
    raise ValueError(f"unknown factor {factor!r}; choose object, category or one of {', '.join(list(FACTORS)[1:])}")


def _category_caption(spec: Spec, rng: np.random.Generator) -> Caption:
    value = told_category(spec, spec.object)
    return _with_frame(rng, noun_phrase(value, spec.count), (("category", value),))


def _factor_caption(spec: Spec, rng: np.random.Generator) -> Caption:
    factor, value = _pick(rng, [fact for fact in facts_of(spec, told=True) if fact[0] != "object"])
    if factor == "category":
        return _with_frame(rng, noun_phrase(value, spec.count), ((factor, value),))
    return Caption(_pick(rng, _single_factor_texts(factor, value, spec.count)), ((factor, value),))


def _long_caption(spec: Spec, rng: np.random.Generator) -> Caption:
    noun = ("object", spec.object)
    if rng.random() < 0.15:
        noun = ("category", told_category(spec, spec.object))
    facts, adjectives, number = [noun], [], None
    said = {factor: rng.random() < 0.4 for factor in FACTORS}
    if said["texture"]:
        adjectives.append(_pick(rng, _TEXTURES[spec.texture]))
        facts.append(("texture", spec.texture))
    if said["colour"] and spec.style == "photo":
        adjectives.append(spec.colour)
        facts.append(("colour", spec.colour))
    if said["count"]:
        number = _pick(rng, _COUNTS[spec.count])
        facts.append(("count", spec.count))
    words = [noun_phrase(noun[1], spec.count, tuple(adjectives), number)]
    if said["place"]:
        words.append(_pick(rng, _PLACES[spec.place]))
        facts.append(("place", spec.place))
    if said["scene"]:
        words.append(_pick(rng, _SCENES[spec.scene][0]))
        facts.append(("scene", spec.scene))
    if said["style"]:
        style = _pick(rng, _STYLES[spec.style])
        words.insert(0, f"{'an' if style[0] in 'aeiou' else 'a'} {style} of")
        facts.append(("style", spec.style))
    return Caption(" ".join(words), tuple(facts))


def _pair_caption(spec: Spec, rng: np.random.Generator) -> Caption:
    names = [spec.object, spec.second]
    rng.shuffle(names)
    text = " and ".join(noun_phrase(name, 1) for name in names)
    facts = [("object", name) for name in names]
    if rng.random() < 0.4:
        text += " " + _pick(rng, _SCENES[spec.scene][0])
        facts.append(("scene", spec.scene))
    return _with_frame(rng, text, tuple(facts))
