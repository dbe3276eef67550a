"""Plain English for images of the sandbox: captions that mention some of the facts, and zero-shot prompts.

A caption carries the facts that it claims, so that we always know which captions are true of which images.
"""

from functools import cache
from typing import NamedTuple

import numpy as np

from .world import CATEGORIES, CATEGORY_OF, FACTORS, FAMILIES, FAMILY_OF, OBJECTS, OPPOSITE, RELATIONS, Spec, told_category

SYNONYMS = {
    "dog": ("puppy", "hound"), "cat": ("kitten",), "horse": ("pony",), "cow": ("cattle",), "hippo": ("hippopotamus",),
    "frog": ("toad",), "shrimp": ("prawn",), "crow": ("raven",), "dove": ("pigeon",), "beetle": ("bug",),
    "locust": ("cricket",), "mosquito": ("gnat",), "dragon": ("monster",), "ghost": ("spirit",), "car": ("automobile",),
    "truck": ("lorry",), "bus": ("coach",), "motorcycle": ("motorbike",), "bicycle": ("bike",), "train": ("tram",),
    "ship": ("steamer",), "sailboat": ("yacht",), "plane": ("airplane",), "helicopter": ("chopper",),
    "rocket": ("spaceship",), "chili pepper": ("chili",), "pizza": ("slice of pizza",), "burger": ("hamburger",),
    "bread": ("toast",), "cookie": ("biscuit",), "cake": ("birthday cake",), "cup": ("mug",), "beer": ("pint",),
    "wrench": ("spanner",), "paintbrush": ("brush",), "toolbox": ("tool case",), "pencil": ("crayon",),
    "envelope": ("letter",), "moon": ("crescent",), "lightning bolt": ("flash",), "tree": ("fir",), "clover": ("shamrock",),
    "flower": ("blossom",), "sprout": ("seedling",), "camera": ("photo camera",), "phone": ("smartphone",),
    "television": ("screen",), "laptop": ("notebook",), "headphones": ("earphones",), "house": ("home",),
    "church": ("chapel",), "factory": ("plant with chimneys",), "stone gate": ("arch",), "watchtower": ("tower",),
    "shop": ("market stall",), "shirt": ("t-shirt",), "glasses": ("spectacles",), "mitten": ("glove",),
    "shopping bag": ("bag",), "suitcase": ("luggage",), "bucket": ("pail",), "trash can": ("dustbin",),
    "soccer ball": ("football",), "gift": ("present",), "flask": ("test tube",), "magnifying glass": ("magnifier",),
    "couch": ("sofa",), "bathtub": ("bath",), "chair": ("seat",), "hand": ("palm",), "umbrella": ("parasol",),
    "trophy": ("prize cup",), "globe": ("planet earth",), "lock": ("padlock",), "gear": ("cogwheel",), "clock": ("watch",),
}  # fmt: skip
_PLURALS = {
    "fish": "fish", "shrimp": "shrimp", "cattle": "cattle", "scissors": "scissors", "glasses": "glasses", "socks": "socks",
    "headphones": "headphones", "earphones": "earphones", "binoculars": "binoculars", "spectacles": "spectacles",
    "dice": "dice", "luggage": "luggage", "leaf": "leaves", "tooth": "teeth", "mosquito": "mosquitoes", "puppy": "puppies",
    "pony": "ponies", "factory": "factories", "trophy": "trophies", "hippopotamus": "hippopotamuses",
    "slice of pizza": "slices of pizza", "plant with chimneys": "plants with chimneys", "planet earth": "planet earths",
    "lorry": "lorries", "bread": "loaves of bread", "toast": "slices of toast", "piece of clothing": "clothes",
    "piece of furniture": "pieces of furniture", "part of the body": "parts of the body",
    "thing of the sky": "things of the sky", "stationery": "stationery", "aircraft": "aircraft",
    "fruit or vegetable": "fruits or vegetables", "food": "food",
}  # fmt: skip
_UNCOUNTED = ("cattle", "luggage", "stationery", "food", "toast", "planet earth")  # no "a" before these
_PAIRS = ("scissors", "glasses", "socks", "headphones", "earphones", "binoculars", "spectacles")  # one of them is "a pair of"
COUNTS = {1: ("one", "a single"), 2: ("two", "a couple of"), 3: ("three",), 4: ("four",)}
_COLOURS = {
    "red": ("red", "crimson"), "orange": ("orange",), "yellow": ("yellow", "golden"), "green": ("green",), "blue": ("blue",),
    "purple": ("purple", "violet"), "pink": ("pink",), "brown": ("brown",), "black": ("black",), "white": ("white",),
    "grey": ("grey", "gray"),
}  # fmt: skip
_TEXTURES = {"plain": ("plain",), "striped": ("striped", "stripy"), "checkered": ("checkered",), "dotted": ("dotted", "spotted")}
_SIZES = {"small": ("small", "little", "tiny"), "medium": ("medium-sized",), "large": ("large", "big", "huge")}
PLACES = {
    "left": ("on the left",), "right": ("on the right",), "top": ("at the top",), "bottom": ("at the bottom",),
    "centre": ("in the middle", "in the centre"), "top left": ("in the top left corner",),
    "top right": ("in the top right corner",), "bottom left": ("in the bottom left corner",),
    "bottom right": ("in the bottom right corner",),
}  # fmt: skip
SCENES = {  # where things are, and the scene itself
    "sea": (("on the sea", "at sea", "on the waves"), ("the sea", "the ocean")),
    "beach": (("on the beach", "on the sand"), ("a beach", "a sandy shore")),
    "lake": (("at the lake", "by a pond"), ("a lake", "a pond with reeds")),
    "reef": (("under water", "at a reef"), ("an underwater scene", "a reef")),
    "forest": (("in the forest", "among trees", "in the woods"), ("a forest", "the woods")),
    "desert": (("in the desert", "among cactuses"), ("a desert", "sand dunes with a cactus")),
    "meadow": (("in a meadow", "on the grass"), ("a meadow", "grass with flowers")),
    "mountains": (("in the mountains", "below snowy peaks"), ("mountains", "snowy peaks")),
    "city": (("in the city", "on a city street", "in town"), ("a city", "a skyline")),
    "room": (("in a room", "indoors"), ("a room", "a window in a wall")),
}
_WEATHER = {
    "clear": ("in clear weather",),
    "rain": ("in the rain", "on a rainy day"),
    "snow": ("in the snow", "while it snows"),
    "fog": ("in fog", "in the mist"),
}
_LIGHT = {"day": ("by day", "in daylight"), "dusk": ("at dusk", "at sunset"), "night": ("at night", "in the dark")}
STYLES = {
    "photo": ("colour photo", "colour picture"),
    "sepia": ("sepia photo", "old sepia picture"),
    "black and white": ("black and white photo", "black and white picture"),
}
WORDS = {"colour": _COLOURS, "texture": _TEXTURES, "size": _SIZES, "place": PLACES, "weather": _WEATHER, "light": _LIGHT}
_FRAMES = ("{}", "{}", "{}", "a picture of {}", "an image with {}", "a photo of {}")

# Shares of training captions: the object alone, its category, one fact; the rest has several facts.
SHORT = (0.5, 0.07, 0.18)
DETAILED = (0.25, 0.05, 0.35)
SAID_TWICE_AS_OFTEN = ("colour", "texture", "scene")


class Caption(NamedTuple):
    text: str
    facts: tuple  # ((factor, value), ...) that the text claims


def facts_of(spec: Spec, told: bool = False) -> tuple:
    """All facts that hold for an image, categories, families and a relation included; with told=True those of training captions."""
    facts = []
    for name in (spec.object, *(kind for kind, _ in spec.others)):
        category = told_category(spec, name) if told else CATEGORY_OF[name]
        facts += [("object", name), ("category", category)]
        facts += [("family", FAMILY_OF[category])] if category in FAMILY_OF else []
    facts += [(factor, getattr(spec, factor)) for factor in spec.shown if factor != "object"]
    facts += [("relation", spec.relation)] if spec.others else []
    return tuple(dict.fromkeys(facts))


def values(factor: str) -> tuple:
    """All values of a factor, "category" and "family" included."""
    return {**FACTORS, "category": tuple(CATEGORIES), "family": tuple(FAMILIES)}[factor]


FACTS = tuple((factor, value) for factor in (*FACTORS, "category", "family") for value in values(factor))
_FACT_INDEX = {fact: k for k, fact in enumerate((*FACTS, *(("relation", name) for name in RELATIONS)))}


def truth(captions: list[Caption], specs: list[Spec], told: bool = False) -> np.ndarray:
    """bool [captions, specs]: are all facts of the caption true of the image, or with told=True, do training captions say so?"""
    claims = np.zeros((len(captions), len(_FACT_INDEX)), np.float32)
    holds = np.zeros((len(specs), len(_FACT_INDEX)), np.float32)
    for row, facts in [*zip(claims, (c.facts for c in captions)), *zip(holds, (facts_of(spec, told) for spec in specs))]:
        row[[_FACT_INDEX[fact] for fact in facts]] = 1
    return claims @ holds.T >= claims.sum(1, keepdims=True) - 0.5


def noun_phrase(noun: str, count: int = 1, adjectives: tuple = (), number: str | None = None) -> str:
    """'a red dog', 'three striped fish', 'an orange pair of scissors', 'apples'."""
    if count > 1:
        return " ".join(filter(None, [number, *adjectives, plural(noun)]))
    words = " ".join([*adjectives, *(["pair of"] if noun in _PAIRS else []), noun])
    if number:
        return f"{number} {words}"
    return (
        words
        if noun in _UNCOUNTED and not adjectives
        else f"{'an' if words[0] in 'aeiou' or words.startswith('hour') else 'a'} {words}"
    )


def plural(noun: str) -> str:
    """'dogs', 'boxes', 'teeth', 'pairs of scissors'."""
    if noun in _PLURALS:
        return f"pairs of {noun}" if noun in _PAIRS else _PLURALS[noun]
    return noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")


def caption(spec: Spec, rng: np.random.Generator, shares: tuple[float, float, float] = DETAILED) -> Caption:
    """A training caption: the object alone, its category, a single fact, or several in one sentence; shares: of the first three."""
    take = iter(rng.random(24).tolist())

    def pick(options):
        return options[int(next(take) * len(options))]

    def noun(name: str) -> str:
        return pick(SYNONYMS[name]) if name in SYNONYMS and next(take) < 0.25 else name

    def framed(text: str, *facts) -> Caption:
        return Caption(pick(_FRAMES).format(text), facts)

    form, (alone, category_alone, one_fact) = next(take), shares
    if spec.others:
        return _together(spec, form, pick, noun, framed)
    if form < alone:
        return framed(noun_phrase(noun(spec.object), spec.count), ("object", spec.object))
    category = told_category(spec, spec.object)
    if form < alone + category_alone:
        family = FAMILY_OF.get(category)
        fact = ("family", family) if family and next(take) < 0.4 else ("category", category)
        return framed(noun_phrase(fact[1], spec.count), fact)
    shown = [factor for factor in spec.shown if factor != "object"]
    shown += [factor for factor in SAID_TWICE_AS_OFTEN if factor in shown]
    if form < alone + category_alone + one_fact:
        factor = pick(shown)
        return Caption(pick(_single_fact_texts(factor, getattr(spec, factor), spec.count)), ((factor, getattr(spec, factor)),))
    said = {pick(shown) for _ in range(1 + int(next(take) * 3))}
    facts = (("object", spec.object), *((factor, getattr(spec, factor)) for factor in FACTORS if factor in said))
    adjectives = tuple(pick(WORDS[factor][getattr(spec, factor)]) for factor in ("size", "texture", "colour") if factor in said)
    words = [noun_phrase(noun(spec.object), spec.count, adjectives, pick(COUNTS[spec.count]) if "count" in said else None)]
    words += [pick(PLACES[spec.place])] if "place" in said else []
    words += [pick(SCENES[spec.scene][0])] if "scene" in said else []
    words += [pick(WORDS[factor][getattr(spec, factor)]) for factor in ("weather", "light") if factor in said]
    if "style" in said:
        words.insert(0, f"{noun_phrase(pick(STYLES[spec.style]))} of")
    return Caption(" ".join(words), facts)


def _together(spec: Spec, form: float, pick, noun, framed) -> Caption:
    """A caption of an image with two or three kinds of object: what is there, how two of them stand, or the scene."""
    kinds = [spec.object, *(kind for kind, _ in spec.others)]
    if form < 0.15:
        fact = pick(("scene", "style", "weather", "light"))
        return Caption(pick(_single_fact_texts(fact, getattr(spec, fact), 2)), ((fact, getattr(spec, fact)),))
    facts = tuple(("object", kind) for kind in kinds)
    if form < 0.45:
        first, second = (noun_phrase(noun(kind)) for kind in kinds[:2])
        if pick((True, False)):
            return Caption(f"{first} {spec.relation} {second}", (*facts[:2], ("relation", spec.relation)))
        return Caption(f"{second} {OPPOSITE[spec.relation]} {first}", (*facts[:2], ("relation", spec.relation)))
    start = int(pick(range(len(kinds))))
    phrases = [noun_phrase(noun(kind)) for kind in (kinds[start:] + kinds[:start])]
    text = " and ".join([", ".join(phrases[:-1]), phrases[-1]])
    if form < 0.7:
        return framed(text, *facts)
    return Caption(f"{text} {pick(SCENES[spec.scene][0])}", (*facts, ("scene", spec.scene)))


def prompts(factor: str, value) -> list[str]:
    """Zero-shot prompts of one factor value ("category" and "family" included), in the form of captions that training saw.

    Raises ValueError for an unknown factor.
    """
    if factor in ("object", "category", "family"):
        one, many = noun_phrase(value, 1), noun_phrase(value, 2)
        texts = [one, many, f"a picture of {one}", f"a picture of {many}", f"an image with {one}", f"a photo of {one}"]
        return list(dict.fromkeys(texts))
    return list(
        dict.fromkeys(text for n in ((value,) if factor == "count" else (1, 2)) for text in _single_fact_texts(factor, value, n))
    )


@cache
def fact_of_prompt() -> dict[str, tuple]:
    """The fact that each of the `prompts` states; its keys are casefolded."""
    return {text.casefold(): fact for fact in FACTS for text in prompts(*fact)}


def _single_fact_texts(factor: str, value, count: int) -> list[str]:
    thing = noun_phrase("object", count)
    if factor in ("colour", "texture", "size"):
        return [noun_phrase("object", count, (word,)) for word in WORDS[factor][value]]
    if factor == "count":
        return [f"{number} {'objects' if value > 1 else 'object'}" for number in COUNTS[value]]
    if factor in ("place", "weather", "light"):
        return [f"{thing} {words}" for words in WORDS[factor][value]]
    if factor == "scene":
        return [f"a picture of {noun}" for noun in SCENES[value][1]] + [f"{thing} {where}" for where in SCENES[value][0]]
    if factor == "style":
        return [f"{noun_phrase(words)} of {thing}" for words in STYLES[value]]
    raise ValueError(f"unknown factor {factor!r}; choose object, category, family or one of {', '.join(list(FACTORS)[1:])}")


assert SYNONYMS.keys() <= set(OBJECTS), SYNONYMS.keys() - set(OBJECTS)
