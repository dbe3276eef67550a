"""Semantic adversarial images (thesis, section 3.5): show one thing, add what neurons confuse with another, and fool CLIP.

A language model writes the descriptions and an image model draws them. Here both are functions, so that the real ones
(`generate.language_model`, `generate.image_model`) and the sandbox's (`template_writer`, `sandbox_painter`) fit alike.
"""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..checks import checked_count
from ..images import read_image
from ..models import Clip
from ..sandbox import CATEGORIES, Rendered, describe, fact_of_prompt, paint, read
from ..texts import mentions
from .concepts import contribution_scores, important_neurons
from .generate import Painter, Writer
from .judges import SHOWS, Judge, sandbox_judge
from .sparse import SparseTexts

_ALONE = ("count", "size", "place")  # what images with several kinds of object do not show


def class_direction(clip: Clip, true: str, wrong: str) -> Tensor:
    """v [E]: from the class that is shown toward the one to be induced, both as bare names (thesis, section 3.5)."""
    shown, induced = clip.encode_text([true, wrong])
    return induced - shown


def spurious_words(texts: SparseTexts, vector: Tensor, k: int = 100, neurons: Tensor | None = None) -> list[str]:
    """All texts that some neurons speak for along v, the highest contribution score first (thesis, eq. 3.4).

    texts: of the directions r_n of all candidate neurons; vector: v, [E]; k: how many neurons, those with the largest
    |<v, r_n>|, unless `neurons` names others.
    """
    neurons = important_neurons(texts.directions, vector, k) if neurons is None else neurons
    scores = contribution_scores(texts, neurons, texts.directions[neurons] @ vector.to(texts.directions))
    return [texts.texts[j] for j in scores.argsort(descending=True).tolist() if scores[j] > 0]


def similar_words(texts: Sequence[str], text_features: Tensor, vector: Tensor) -> list[str]:
    """All texts of a pool, those most similar to v first: the baseline that looks at no neuron (thesis, table 3.3)."""
    return [texts[j] for j in (text_features @ vector.to(text_features)).argsort(descending=True).tolist()]


def drop_synonyms(
    words: Sequence[str],
    wrong: str,
    encode: Callable[[list[str]], Tensor],
    threshold: float = 0.6,
    n: int = 25,
    centre: Tensor | float | None = None,
) -> list[str]:
    """The first n words that neither contain the name of a class, as a whole word or its plural, nor come near it.

    Near is a cosine of `threshold` or more. encode: list of texts -> unit vectors. The thesis compares sentence vectors as
    they are: `generate.sentence_encoder` and centre=0. Text vectors of a CLIP share a large part, so that any two have a
    cosine of 0.6 and more; it is taken out first. centre: that part, [E]: the mean vector of the pool, where there is one at
    hand, or by default that of the words, of which there should then be some dozens.
    """
    words, n = list(words), checked_count("n", n)
    if not words:
        return []
    vectors, name = encode(words), encode([wrong])
    centre = vectors.mean(0) if centre is None else centre
    cosines = F.cosine_similarity(vectors - centre, name - centre)
    kept = [word for word, cosine in zip(words, cosines.tolist()) if cosine < threshold and not mentions(word, wrong)]
    return kept[:n]


def template_writer(words: Sequence[str], true: str, wrong: str, n: int, seed: int) -> list[str]:
    """The sandbox's language model: n descriptions with the true object and as many of the words as one image can show.

    Two other kinds of object at most; words that cannot be drawn are passed over (see `drawable`).
    """
    rng, descriptions = random.Random(f"{true} {wrong} {seed}"), []
    for _ in range(n):
        picked: dict[str, object] = {}
        for word in rng.sample(list(words), len(words)):
            for factor, value in _meaning(word, true, wrong, rng):
                if factor == "object":
                    factor = "third" if picked.get("second", value) != value else "second"
                blocked = {"second"} if factor in _ALONE else set(_ALONE) if factor in ("second", "third") else set()
                if factor not in picked and not blocked & picked.keys():
                    picked[factor] = value
        descriptions.append(describe({"object": true, **picked}))
    return descriptions


def drawable(words: Sequence[str], true: str, wrong: str) -> list[str]:
    """The words that `template_writer` can say something in a picture with, beside the true object and without the wrong one."""
    return [word for word in words if _meaning(word, true, wrong, random.Random(0))]


def _meaning(word: str, true: str, wrong: str, rng: random.Random) -> list[tuple[str, object]]:
    """What a word stands for in a picture; a kind of thing is shown by one example of it."""
    named, category = _named(word)
    facts = [(factor, value) for factor, value in named if factor != "relation" and value not in (true, wrong)]
    if not facts and category:
        facts = [("object", rng.choice([name for name in CATEGORIES[category] if name not in (true, wrong)]))]
    return facts


@cache
def _named(word: str) -> tuple[list[tuple[str, object]], str | None]:
    """The facts that a word names, and the category of which it is a prompt."""
    factor, category = fact_of_prompt().get(word.casefold(), (None, None))
    return read(word), category if factor == "category" else None


def sandbox_painter(descriptions: Sequence[str], per_text: int, seed: int) -> list[list[Image.Image]]:
    """The sandbox's image model: `sandbox.paint`, as PIL images that say what they show (`judges.sandbox_judge`)."""
    return [[_labelled(drawn) for drawn in paint(text, per_text, seed + 1000 * k)] for k, text in enumerate(descriptions)]


def _labelled(drawn: Rendered) -> Image.Image:
    image = drawn.image
    image.info[SHOWS] = {drawn.factors.object, *(kind for kind, _ in drawn.factors.others)}
    return image


@dataclass(frozen=True)
class Attack:
    """Images of one thing, made to be taken for another, that a judge found to show the one and not the other."""

    descriptions: list[str]  # of each image
    images: list[Image.Image]
    scores: Tensor  # <M(I) / |M(I)|, v>, [n]; above 0 the image fools the classifier
    drawn: list[str]  # the description of each image that was drawn, those included that the judge dropped

    @property
    def dropped(self) -> int:
        """How many images the judge dropped."""
        return len(self.drawn) - len(self.images)

    @property
    def by_description(self) -> dict[str, float]:
        """For each description, the percent of its drawn images that pass the judge and fool the classifier."""
        fooled = Counter(text for text, score in zip(self.descriptions, self.scores.tolist()) if score > 0)
        return {text: 100 * fooled[text] / drawn for text, drawn in Counter(self.drawn).items()}

    @property
    def success(self) -> float:
        """Percent of the drawn images that pass the judge and fool the classifier (thesis: how many out of 100)."""
        return 100 * (self.scores > 0).sum().item() / len(self.drawn)


class Success(NamedTuple):
    """How often attacks on one pair of classes succeed, in percent of the drawn images."""

    mean: float
    std: float  # over the attacks, divided by their number, as the printed ones of table 3.3 are
    error: float  # standard error of the mean; a description is one unit, for its images resemble each other
    dropped: int  # images that the judge dropped, of
    drawn: int


def success(attacks: Sequence[Attack]) -> Success:
    """Mean and spread of repeated attacks, each with another seed (thesis, table 3.3: three). Raises ValueError for none."""
    if not attacks:
        raise ValueError("need at least one attack")
    rates = torch.tensor([attack.success for attack in attacks])
    units = torch.tensor([rate for attack in attacks for rate in attack.by_description.values()])
    error = (units.std() / len(units) ** 0.5).item() if len(units) > 1 else float("nan")
    dropped, drawn = (sum(counts) for counts in zip(*((attack.dropped, len(attack.drawn)) for attack in attacks)))
    return Success(rates.mean().item(), rates.std(correction=0).item(), error, dropped, drawn)


def most_fooling(attacks: Sequence[Attack]) -> tuple[Image.Image, str] | None:
    """The image of some attacks that fools the classifier most, and its description; None where none does."""
    scores = torch.cat([attack.scores for attack in attacks])
    if len(scores) == 0 or scores.max() <= 0:
        return None
    images = [pair for attack in attacks for pair in zip(attack.images, attack.descriptions)]
    return images[scores.argmax()]


@torch.no_grad()
def attack(
    clip: Clip,
    true: str,
    wrong: str,
    words: Sequence[str],
    writer: Writer,
    painter: Painter,
    n_texts: int = 10,
    per_text: int = 10,
    seed: int = 0,
    judge: Judge = sandbox_judge,
) -> Attack:
    """Write descriptions from the words, keep those that name the true class alone, draw some, and classify (thesis, table 3.3).

    50 descriptions are written; `n_texts` random ones of those kept are drawn `per_text` times. judge: tells which images show
    the true class and not the wrong one; the others are dropped, and count as drawn. By default the truth of the sandbox; for
    photographs `judges.object_detector`.
    Raises ValueError without words, where no description is left, where nothing was drawn, and as the judge does.
    """
    if not words:
        raise ValueError("no words to write about; take more neurons or a higher threshold for synonyms")
    written = writer(words, true, wrong, 50, seed)
    kept = [text for text in written if mentions(text, true) and not mentions(text, wrong)]
    if not kept:
        raise ValueError(f"none of {len(written)} descriptions names {true!r} and not {wrong!r}; the first: {written[:1]}")
    chosen = random.Random(seed).sample(kept, min(checked_count("n_texts", n_texts), len(kept)))
    rows = painter(chosen, checked_count("per_text", per_text), seed)
    drawn = [(text, image) for text, row in zip(chosen, rows) for image in row]
    if not drawn:
        raise ValueError(f"the painter drew none of {len(chosen)} descriptions; the first: {chosen[:1]}")
    verdicts = judge([image for _, image in drawn], true, wrong)
    passed = [pair for pair, good in zip(drawn, verdicts, strict=True) if good]
    vector, scores = class_direction(clip, true, wrong), [torch.empty(0)]
    for start in range(0, len(passed), 64):
        pixels = torch.stack([clip.preprocess(read_image(image)) for _, image in passed[start : start + 64]])
        whole = clip.encode_image(pixels).float()
        scores.append((whole / whole.norm(dim=-1, keepdim=True) @ vector).cpu())
    texts, images = ([pair[k] for pair in passed] for k in (0, 1))
    return Attack(texts, images, torch.cat(scores), [text for text, _ in drawn])
