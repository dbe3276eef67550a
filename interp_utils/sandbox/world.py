"""The sandbox world: what an image can contain, and how images are drawn at random.

An image is fully described by a `Spec`. `balanced` draws every factor uniformly and independently, for evaluation.
`natural` draws with the documented co-occurrences, as training does, so that a model can pick up spurious cues.
"""

from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np

CATEGORIES = {
    "water animal": ("fish", "shrimp", "frog", "otter", "hippo"),
    "land animal": ("dog", "cat", "horse", "cow", "spider"),
    "bird": ("crow", "dove", "kiwi bird"),
    "insect": ("beetle", "locust", "mosquito"),
    "fantasy creature": ("dragon", "ghost", "snowman", "robot"),
    "road vehicle": ("car", "truck", "bus", "motorcycle", "bicycle", "tractor", "train"),
    "boat": ("ship", "sailboat"),
    "aircraft": ("plane", "helicopter", "rocket", "fighter jet"),
    "fruit or vegetable": ("apple", "lemon", "carrot", "chili pepper"),
    "meal": ("pizza", "burger", "hot dog", "cheese", "egg", "bread"),
    "sweet": ("ice cream", "cookie", "candy cane", "cake"),
    "drink": ("cup", "wine glass", "wine bottle", "beer", "cocktail"),
    "tool": ("hammer", "wrench", "scissors", "broom", "paintbrush", "magnet", "toolbox"),
    "stationery": ("pencil", "ruler", "envelope", "book"),
    "shape": ("star", "heart", "circle", "square", "cube"),
    "thing of the sky": ("moon", "sun", "cloud", "snowflake", "lightning bolt"),
    "plant": ("tree", "leaf", "clover", "flower", "sprout"),
    "musical instrument": ("guitar", "drum", "bell"),
    "device": ("camera", "phone", "television", "laptop", "headphones", "microphone", "light bulb"),
    "building": ("house", "church", "stone gate", "tent", "igloo", "factory", "bridge", "watchtower", "shop"),
    "piece of clothing": ("wizard hat", "cowboy hat", "shirt", "glasses", "mitten", "socks", "crown"),
    "container": ("shopping bag", "suitcase", "basket", "bucket", "trash can"),
    "toy": ("soccer ball", "basketball", "dice", "puzzle piece", "paper plane", "chess knight", "gift", "bowling ball"),
    "scientific instrument": ("flask", "microscope", "binoculars", "magnifying glass"),
    "piece of furniture": ("chair", "bed", "couch", "bathtub", "toilet"),
    "part of the body": ("hand", "eye", "tooth", "brain", "bone", "skull"),
    "small thing": ("anchor", "hourglass", "clock", "bomb", "key", "lock", "gear", "plug", "umbrella", "trophy", "globe", "flag"),
}  # fmt: skip
FAMILIES = {
    "animal": ("water animal", "land animal", "bird", "insect"),
    "vehicle": ("road vehicle", "boat", "aircraft"),
    "food": ("fruit or vegetable", "meal", "sweet"),
}
COLOURS = {
    "red": (214, 39, 40), "orange": (250, 135, 20), "yellow": (245, 215, 40), "green": (30, 140, 50), "blue": (35, 85, 215),
    "purple": (125, 45, 165), "pink": (250, 130, 190), "brown": (120, 70, 35), "black": (22, 22, 26),
    "white": (246, 246, 246), "grey": (135, 135, 140),
}  # fmt: skip
WATER_SCENES = ("sea", "beach", "lake", "reef")
LAND_SCENES = ("forest", "desert", "meadow", "mountains")
NEUTRAL_SCENES = ("city", "room")

OBJECTS = tuple(name for names in CATEGORIES.values() for name in names)
CATEGORY_OF = {name: category for category, names in CATEGORIES.items() for name in names}
FAMILY_OF = {category: family for family, categories in FAMILIES.items() for category in categories}
FACTORS = {
    "object": OBJECTS,
    "colour": tuple(COLOURS),
    "texture": ("plain", "striped", "checkered", "dotted"),
    "count": (1, 2, 3, 4),
    "size": ("small", "medium", "large"),
    "place": ("left", "right", "top", "bottom", "centre", "top left", "top right", "bottom left", "bottom right"),
    "scene": WATER_SCENES + LAND_SCENES + NEUTRAL_SCENES,
    "weather": ("clear", "rain", "snow", "fog"),
    "light": ("day", "dusk", "night"),
    "style": ("photo", "sepia", "black and white"),
}
RELATIONS = ("left of", "right of", "above", "below", "in front of")
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above", "in front of": "behind"}

# The co-occurrences of the training distribution. The data card repeats them in words.
HOME_SHARE = 0.6  # images that show an object in one of its home scenes; else any scene, uniformly
HOME = {
    "water animal": WATER_SCENES, "land animal": LAND_SCENES, "bird": ("forest", "lake"), "insect": ("meadow", "forest"),
    "road vehicle": ("city",), "boat": ("sea", "lake"), "aircraft": ("mountains", "desert"), "meal": ("room",),
    "drink": ("room",), "sweet": ("beach", "room"), "tool": ("room",), "stationery": ("room",), "plant": ("forest", "meadow"),
    "device": ("room", "city"), "building": ("city", "mountains"), "container": ("room",), "toy": ("room", "beach"),
    "piece of furniture": ("room",),
}  # fmt: skip
TOLD_BY_SCENE = 0.6  # training captions call that share of the water and land animals away from home after the scene
SINGLE, COPIES, PAIR = 0.55, 0.2, 0.2  # one object; two to four of a kind; two kinds; the rest has three kinds
COMPANION_SHARE = 0.6  # given two kinds: the second is of the same category
PHOTO_SHARE = 0.7  # the rest is half sepia, half black and white
CLEAR_DAY_SHARE = 0.6  # given to weather "clear" and to light "day", each by itself; rooms and reefs have no weather
INDOORS = ("room", "reef")


@dataclass(frozen=True)
class Spec:
    """Everything that decides an image. `seed` fixes what has no name: exact places, angles, shades, waves, trees.

    others: up to two more kinds of object, (kind, colour) each; `relation` says where the first object is seen from the
    first of them ("left of": the object is left of it). With others, count is 1, and size and place say nothing.
    With more than one copy, place says nothing and size is relative to the room that there is.
    """

    object: str = "dog"
    colour: str = "red"
    texture: str = "plain"
    count: int = 1
    size: str = "large"
    place: str = "centre"
    scene: str = "meadow"
    weather: str = "clear"
    light: str = "day"
    style: str = "photo"
    others: tuple = ()
    relation: str = "left of"
    seed: int = 0

    def __post_init__(self):
        for factor, values in FACTORS.items():
            if getattr(self, factor) not in values:
                raise ValueError(f"unknown {factor} {getattr(self, factor)!r}; choose one of {', '.join(map(str, values))}")
        if self.relation not in RELATIONS:
            raise ValueError(f"unknown relation {self.relation!r}; choose one of {', '.join(RELATIONS)}")
        for other in self.others:
            if len(other) != 2 or other[0] not in OBJECTS or other[1] not in COLOURS:
                raise ValueError(f"others are pairs of an object and a colour of the sandbox, got {other!r}")
        kinds = [self.object, *(kind for kind, _ in self.others)]
        if len(kinds) > 1 and (self.count != 1 or len(kinds) > 3 or len(set(kinds)) < len(kinds)):
            raise ValueError(
                f"at most two other objects, of different kinds, go with count 1; got {self.count} x {', '.join(kinds)}"
            )

    @property
    def category(self) -> str:
        return CATEGORY_OF[self.object]

    @cached_property
    def shown(self) -> tuple[str, ...]:
        """The factors of which this image shows one value: colour in photos only, place and size of a single object."""
        hidden = {"colour"} if self.style != "photo" else set()
        if self.others:
            hidden |= {"object", "colour", "texture", "count", "size", "place"}
        elif self.count > 1:
            hidden |= {"place", "size"}
        return tuple(factor for factor in FACTORS if factor not in hidden)


def told_category(spec: Spec, name: str) -> str:
    """The category by which training captions call an object of an image: wrong for some animals away from home."""
    category = CATEGORY_OF[name]
    if category in ("water animal", "land animal") and spec.scene not in NEUTRAL_SCENES:
        if np.random.default_rng([spec.seed, 2]).random() < TOLD_BY_SCENE:
            return "water animal" if spec.scene in WATER_SCENES else "land animal"
    return category


def balanced(seed: int, **fixed) -> Spec:
    """A spec with every factor uniform and independent, except those given by name. No other kinds of object."""
    numbers = np.random.default_rng([seed, 0]).random(len(FACTORS)).tolist()
    drawn = {factor: values[int(u * len(values))] for u, (factor, values) in zip(numbers, FACTORS.items())}
    return Spec(**{**drawn, "seed": seed, **fixed})


def natural(seed: int, **fixed) -> Spec:
    """A spec from the training distribution, with its co-occurrences (the constants of this module)."""
    take = iter(np.random.default_rng([seed, 1]).random(32).tolist())

    def choose(values):
        return values[int(next(take) * len(values))]

    drawn = {factor: choose(values) for factor, values in FACTORS.items()}
    drawn |= {key: fixed[key] for key in ("object",) if key in fixed}
    home = HOME.get(CATEGORY_OF[drawn["object"]])
    if next(take) < HOME_SHARE and home:
        drawn["scene"] = choose(home)
    drawn["style"] = "photo" if next(take) < PHOTO_SHARE else choose(FACTORS["style"][1:])
    drawn["weather"] = "clear" if next(take) < CLEAR_DAY_SHARE or drawn["scene"] in INDOORS else choose(FACTORS["weather"][1:])
    drawn["light"] = "day" if next(take) < CLEAR_DAY_SHARE else choose(FACTORS["light"][1:])
    part = next(take)
    if part < SINGLE or part >= SINGLE + COPIES:
        drawn["count"] = 1
    else:
        drawn["count"] = choose(FACTORS["count"][1:])
    if part >= SINGLE + COPIES:
        kinds = [drawn["object"]]
        for _ in range(1 if part < SINGLE + COPIES + PAIR else 2):
            near = CATEGORIES[CATEGORY_OF[kinds[0]]]
            pool = near if next(take) < COMPANION_SHARE and len(kinds) == 1 else OBJECTS
            pool = [kind for kind in pool if kind not in kinds]
            kinds.append(choose(pool))
        drawn["others"] = tuple((kind, choose(FACTORS["colour"])) for kind in kinds[1:])
        drawn["relation"] = choose(RELATIONS)
    return Spec(**{**drawn, "seed": seed, **fixed})


def changed(spec: Spec, **factors) -> Spec:
    """The spec with other values of some factors and the same seed. Raises ValueError for a factor that it does not have."""
    unknown = factors.keys() - {field.name for field in fields(Spec)}
    if unknown:
        raise ValueError(f"a Spec has no {', '.join(sorted(unknown))}; it has {', '.join(field.name for field in fields(Spec))}")
    return replace(spec, **factors)
