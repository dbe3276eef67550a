"""Texts as hypotheses: which things they name, and so in which parts they can be tested."""

import re

from ..sandbox.first import FACTORS, describe, prompts, read
from .truth import FACTS

_FRAME = re.compile(r"^(?:an?|the) (?:\w+ )?(?:image|photo|photograph|picture|close-up|view) (?:of|with) ")
_JOINT = re.compile(r" (?:in|on|at|with|of|near) ")


def single_things() -> list[str]:
    """One text for each fact of the first sandbox world, in the order of `FACTS`."""
    return [prompts(*fact)[0] for fact in FACTS]


def one_or_two_things(texts: list[str]) -> list[str]:
    """Those of some texts that name one thing of the first sandbox world, and texts that name two: each object with each fact."""
    others = [fact for fact in FACTS if fact[0] != "object"]
    pairs = [describe({"object": name, factor: value}) for name in FACTORS["object"] for factor, value in others]
    return [text for text in texts if len(read(text)) == 1] + pairs


def parts_named(text: str) -> list[str]:
    """A text of each single thing that a text of the first sandbox world names; no text for one that names nothing."""
    return [prompts(*fact)[0] for fact in read(text)]


def phrases(text: str) -> list[str]:
    """The parts of a text about photographs: what stands between its prepositions, a frame such as "a photo of" left out."""
    return _JOINT.split(_FRAME.sub("", text))
