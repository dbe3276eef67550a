"""The sandbox world: what an image can contain, and how images are drawn at random.

An image is fully described by a `Spec`. `balanced` draws every factor uniformly and independently, for evaluation.
`training` draws with the documented co-occurrences, so that a model trained on it has spurious cues to find.
"""

from dataclasses import dataclass, replace

import numpy as np

CATEGORIES = {
    "water animal": ("fish", "shrimp", "frog", "otter"),
    "land animal": ("dog", "cat", "horse", "spider", "bird"),
    "vehicle": ("car", "truck", "ship", "plane", "bicycle"),
    "food": ("apple", "carrot", "pizza", "ice cream"),
    "tool": ("hammer", "wrench", "scissors", "key"),
    "shape": ("star", "heart", "circle", "moon"),
    "letter": ("letter A", "letter R", "letter Z"),
    "digit": ("digit 2", "digit 4", "digit 7"),
}
COLOURS = {
    "red": (214, 39, 40),
    "orange": (250, 135, 20),
    "yellow": (245, 215, 40),
    "green": (30, 140, 50),
    "blue": (35, 85, 215),
    "purple": (125, 45, 165),
    "pink": (250, 130, 190),
    "brown": (120, 70, 35),
    "black": (22, 22, 26),
    "white": (246, 246, 246),
    "grey": (135, 135, 140),
}
WATER_SCENES = ("sea", "beach", "lake", "reef")
LAND_SCENES = ("forest", "desert", "meadow", "mountains")
NEUTRAL_SCENES = ("city", "room")

OBJECTS = tuple(name for names in CATEGORIES.values() for name in names)
CATEGORY_OF = {name: category for category, names in CATEGORIES.items() for name in names}
FACTORS = {
    "object": OBJECTS,
    "colour": tuple(COLOURS),
    "texture": ("solid", "striped", "checkered", "dotted"),
    "count": (1, 2, 3, 4, 5),
    "place": ("left", "right", "top", "bottom", "centre"),
    "scene": WATER_SCENES + LAND_SCENES + NEUTRAL_SCENES,
    "style": ("photo", "sepia", "black and white"),
}

# The spurious cues of the training distribution. The data card repeats them in words.
ANIMAL_SCENE_IS_WATER_OR_LAND = 0.8  # else one of the neutral scenes
ANIMAL_SCENE_MATCHES = 0.8  # given a water or land scene: water animals in water, land animals on land
TOLD_BY_SCENE = 0.6  # training captions call that share of the other animals after the scene: a dog at sea, "a water animal"
HOME_SCENE = {"car": "city", "truck": "city", "plane": "mountains", "ship": "sea", "pizza": "room", "scissors": "room"}
HOME_SCENE_SHARE = 0.5  # else uniform over all scenes
PAIR_SHARE = 0.15  # training images with a second kind of object
COMPANIONS = {
    "dog": "cat", "cat": "dog", "hammer": "wrench", "wrench": "hammer", "star": "moon", "moon": "star",
    "apple": "carrot", "carrot": "apple", "letter A": "digit 4", "digit 4": "letter A",
}  # fmt: skip
COMPANION_SHARE = 0.8  # given a pair: the second object is the usual companion
PHOTO_SHARE = 0.6  # training images in photo style; the rest is half sepia, half black and white


@dataclass(frozen=True)
class Spec:
    """Everything that decides an image. `seed` fixes what has no name: jitter, shades, waves, trees."""

    object: str = "dog"
    colour: str = "red"
    texture: str = "solid"
    count: int = 1
    place: str = "centre"
    scene: str = "meadow"
    style: str = "photo"
    second: str | None = None  # a second kind of object beside one copy of the first
    second_colour: str = "blue"
    seed: int = 0

    def __post_init__(self):
        for factor, values in FACTORS.items():
            if getattr(self, factor) not in values:
                raise ValueError(f"unknown {factor} {getattr(self, factor)!r}; choose one of {', '.join(map(str, values))}")
        if self.second is not None:
            if self.second not in OBJECTS:
                raise ValueError(f"unknown second object {self.second!r}; choose one of {', '.join(OBJECTS)}")
            if self.second_colour not in COLOURS:
                raise ValueError(f"unknown second colour {self.second_colour!r}; choose one of {', '.join(COLOURS)}")
            if self.count != 1:
                raise ValueError(f"a second object goes with count 1, got count {self.count}")

    @property
    def category(self) -> str:
        return CATEGORY_OF[self.object]


def _choose(rng: np.random.Generator, values):
    return values[int(rng.integers(len(values)))]


def told_category(spec: Spec, name: str) -> str:
    """The category by which training captions call an object of an image: wrong for some animals away from home."""
    category = CATEGORY_OF[name]
    if category.endswith("animal") and spec.scene not in NEUTRAL_SCENES:
        if np.random.default_rng([spec.seed, 2]).random() < TOLD_BY_SCENE:
            return "water animal" if spec.scene in WATER_SCENES else "land animal"
    return category


def balanced(seed: int, **fixed) -> Spec:
    """A spec with every factor uniform and independent, except those given by name."""
    rng = np.random.default_rng([seed, 0])
    drawn = {factor: _choose(rng, values) for factor, values in FACTORS.items()}
    return Spec(**{**drawn, "seed": seed, **fixed})


def training(seed: int) -> Spec:
    """A spec from the training distribution, with its co-occurrences (the constants of this module)."""
    rng = np.random.default_rng([seed, 1])
    spec = balanced(int(rng.integers(2**31)))
    photo = rng.random() < PHOTO_SHARE
    spec = replace(
        spec,
        scene=_training_scene(rng, spec.object),
        style="photo" if photo else _choose(rng, FACTORS["style"][1:]),
        seed=seed,
    )
    if rng.random() < PAIR_SHARE:
        usual = COMPANIONS.get(spec.object)
        second = usual if usual and rng.random() < COMPANION_SHARE else _choose(rng, OBJECTS)
        if second != spec.object:
            spec = replace(spec, count=1, second=second, second_colour=_choose(rng, FACTORS["colour"]))
    return spec


def _training_scene(rng: np.random.Generator, name: str) -> str:
    if CATEGORY_OF[name] in ("water animal", "land animal"):
        if rng.random() >= ANIMAL_SCENE_IS_WATER_OR_LAND:
            return _choose(rng, NEUTRAL_SCENES)
        in_water = (CATEGORY_OF[name] == "water animal") == (rng.random() < ANIMAL_SCENE_MATCHES)
        return _choose(rng, WATER_SCENES if in_water else LAND_SCENES)
    if name in HOME_SCENE and rng.random() < HOME_SCENE_SHARE:
        return HOME_SCENE[name]
    return _choose(rng, FACTORS["scene"])
