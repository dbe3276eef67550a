"""Texts as hypotheses: which things they name, and so in which parts they can be tested."""

import re
from functools import cache

from ..sandbox import CATEGORIES, FACTORS, FACTS, FAMILIES, describe, fact_of_prompt, prompts, read
from ..sandbox.captions import plural

_FRAME = re.compile(r"^(?:an?|the) (?:\w+ )?(?:image|photo|photograph|picture|close-up|view) (?:of|with) ")
_JOINT = re.compile(r" (?:in|on|at|with|of|near) ")


@cache
def _groups() -> tuple[re.Pattern, dict[str, tuple[str, str]]]:
    """A pattern of the names of categories and families of objects, and the fact that each stands for."""
    facts = [("category", name) for name in CATEGORIES] + [("family", name) for name in FAMILIES]
    meaning = {words: fact for fact in facts for words in (fact[1], plural(fact[1]))}
    return re.compile(r"\b(?:" + "|".join(sorted(map(re.escape, meaning), key=len, reverse=True)) + r")\b"), meaning


def facts_named(text: str) -> list[tuple[str, object]]:
    """The facts of the sandbox that a text names, in its own order; a category or family where it names no kind of object."""
    known = fact_of_prompt().get(text.casefold())
    if known is not None:
        return [known]
    facts = list(dict.fromkeys(read(text)))
    pattern, meaning = _groups()
    if not any(factor == "object" for factor, _ in facts):
        facts = [meaning[words] for words in pattern.findall(text.casefold())[:1]] + facts
    return facts


def single_things() -> list[str]:
    """One text for each fact of the sandbox, in the order of `sandbox.FACTS`."""
    return [prompts(*fact)[0] for fact in FACTS]


def one_or_two_things(texts: list[str]) -> list[str]:
    """Those of some texts that name one thing of the sandbox, and texts that name two: each object with each fact."""
    others = [(factor, value) for factor, values in FACTORS.items() if factor != "object" for value in values]
    pairs = [describe({"object": name, factor: value}) for name in FACTORS["object"] for factor, value in others]
    return [text for text in texts if len(facts_named(text)) == 1] + pairs


def parts_named(text: str) -> list[str]:
    """A text of each single thing that a text of the sandbox names; no text for one that names nothing."""
    return [prompts(*fact)[0] for fact in facts_named(text)]


def phrases(text: str) -> list[str]:
    """The parts of a text about photographs: what stands between its prepositions, a frame such as "a photo of" left out."""
    return _JOINT.split(_FRAME.sub("", text))
