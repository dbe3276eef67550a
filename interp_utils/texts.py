"""Pools of candidate descriptions, by name: the words in which TextSpan and its relatives may speak."""

import re
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from wordfreq import iter_wordlist

from .models import DATA, Clip
from .sandbox.captions import FACTS, prompts

_NAMES = ("general", "words", "classes", "sandbox")
_WORDS = 3498  # as many as the thesis has descriptions and common words
_OF_A_CLASS = (
    # these need no other words than the sandbox's captions
    "a photo of {a}", "a picture of {a}", "an image with {a}", "a scene with {a}", "{a} on the left", "{a} in the middle",
    "{a} at the top", "{a} indoors", "{a} on the grass", "the shape of {a}", "the colour of {a}",
    "a black and white picture of {a}",
    # these do
    "a close-up of {a}", "{a} seen from above", "{a} seen from the side", "{a} on a plain background", "{a} outdoors",
    "{a} in bright light", "{a} at night", "{a} half hidden behind something", "the texture of {a}", "the outline of {a}",
    "parts of {a}", "a place where you find {a}", "a person with {a}", "a drawing of {a}", "a painting of {a}",
    "a blurry photo of {a}",
)  # fmt: skip
_SINGULAR_IN_S = ("ss", "us", "is", "ops", "gas", "lens", "canvas", "atlas", "Christmas", "series", "species")
_WITHOUT_ARTICLE = set(
    "bread broccoli butter cauliflower cheese corn cotton dough eggnog fabric food fur furniture grass guacamole hay jewellery "
    "lotion mail meat milk money music paper perfume pasta powder rice sand smoke snow spray sunscreen syrup water wine wood "
    "wool".split()
)
_LIKE_YOU = re.compile(r"uni(?![dmn])|us[eu]|ut[ei]|uku|ura|ubi|eu|ewe|one|once")  # vowels on paper, consonants in the mouth
_SILENT_H = re.compile(r"hour|hono|heir")


class Pool(NamedTuple):
    """Candidate descriptions, distinct ignoring case, and what each is about."""

    texts: list[str]
    kinds: list[str]  # the kind of each text, "" where unknown


def load_pool(name: str | Path, n: int | None = None, classes: list[str] | None = None) -> Pool:
    """A pool of descriptions: "general" (ours), "words", "classes", "sandbox", or the path of a text file (thesis, section A).

    "words" are the most common English words of three letters or more, 3498 unless n says otherwise; "classes" describes each
    of `classes`, which the other pools leave alone; "sandbox" has all prompts of the sandbox, their factor as kind. A text file
    is UTF-8 with one text a line, or kind<TAB>text on every line; blank lines and repetitions, ignoring case, are dropped.
    n: the first so many texts; "general" is shuffled, so its start is a fair sample.
    Raises ValueError for an unknown name, n < 1, an empty pool, no classes or a file not in UTF-8, FileNotFoundError for no file.
    """
    if n is not None and n < 1:
        raise ValueError(f"need at least one text, got n={n}")
    if name == "words":
        common = (word for word in iter_wordlist("en") if word.isalpha() and len(word) >= 3)
        return _pool(("word", word) for word in islice(common, n or _WORDS))
    if name == "classes":
        if classes is None:
            raise ValueError('the pool "classes" needs the class names: load_pool("classes", classes=task.classes)')
        pool = class_descriptions(classes)
    elif name == "sandbox":
        pool = _pool((factor, text) for factor, value in FACTS for text in prompts(factor, value))
    else:
        pool = _read(DATA / "texts" / "general.tsv" if name == "general" else name)
    return Pool(pool.texts[:n], pool.kinds[:n])


def class_descriptions(classes: list[str]) -> Pool:
    """28 descriptions of each class: its look, parts, texture, places, views, pictures; the kind of a text is its class name.

    Patterns stand in for the prompt of table A.2 (thesis), so that any class list will do; a class named twice counts once.
    Raises ValueError for no classes or a blank name.
    """
    if isinstance(classes, str) or len(classes) == 0 or not all(isinstance(c, str) and c.strip() for c in classes):
        raise ValueError(f"need a list of at least one class name, none of them blank, got {classes!r:.80}")
    names = [" ".join(name.split()) for name in classes]
    return _pool((name, pattern.replace("{a}", _with_article(name))) for name in names for pattern in _OF_A_CLASS)


def knows(clip: Clip, texts: list[str]) -> list[bool]:
    """For each text, whether the model knows all of its tokens.

    A token is unknown where its row of the token embedding is all zeros: the sandbox CLIP ships with only the rows that its
    captions use. Models with a full table know everything, and so does a text tower that keeps its table elsewhere.
    Raises ValueError for a Clip without a tokenizer.
    """
    if clip.tokenizer is None:
        raise ValueError("this Clip has no tokenizer; pass open_clip.get_tokenizer(name) when you make it")
    table = getattr(getattr(clip.model, "text", clip.model), "token_embedding", None)
    if table is None:
        return [True] * len(texts)
    known = (table.weight != 0).any(1).cpu()
    known[clip.tokenizer([""])] = True  # start, end and padding
    return known[clip.tokenizer(texts)].all(1).tolist()


def understood(clip: Clip, pool: Pool) -> Pool:
    """The texts of a pool that the model `knows`. Raises ValueError when nothing is left, and for a Clip without a tokenizer."""
    keep = knows(clip, pool.texts)
    if not any(keep):
        raise ValueError(f"{clip.name} knows all tokens of none of these {len(pool.texts)} texts; take another pool")
    texts, kinds = ([item for item, kept in zip(items, keep) if kept] for items in pool)
    return Pool(texts, kinds)


def random_vectors(n: int, width: int, seed: int) -> Tensor:
    """Vectors [n, width] from a unit Gaussian: TextSpan's baseline without text (thesis, figure 2.3 and section A).

    Raises ValueError unless n and width are positive.
    """
    if n < 1 or width < 1:
        raise ValueError(f"need n and width of at least 1, got {n} and {width}")
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


def _pool(pairs) -> Pool:
    """The pool of (kind, text) pairs, without repetitions."""
    distinct = {}
    for kind, text in pairs:
        distinct.setdefault(text.casefold(), (text, kind))
    return Pool([text for text, _ in distinct.values()], [kind for _, kind in distinct.values()])


def _read(name: str | Path) -> Pool:
    path = Path(name).expanduser()
    if not path.is_file():
        if isinstance(name, str) and name == path.name and not path.suffix:  # one word, so rather a name than a path
            raise ValueError(f"unknown pool {name!r}; choose {', '.join(_NAMES)}, or give the path of a text file, one text a line")
        raise FileNotFoundError(f"no text file {path}; it should hold one text a line, or kind<TAB>text")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 ({error}); save it as UTF-8 text") from error
    lines = [line.rstrip() for line in lines if line.strip()]
    if not lines:
        raise ValueError(f"{path} holds no text; it should hold one text a line, or kind<TAB>text")
    has_kinds = all("\t" in line for line in lines)
    pairs = (line.split("\t", 1) if has_kinds else ("", line) for line in lines)
    return _pool((kind.strip(), text.strip()) for kind, text in pairs)


def _with_article(name: str) -> str:
    """'an apple', 'a unicorn', 'an hourglass', 'a T-shirt', 'scissors', 'toilet paper'."""
    last = name.split(" (")[0].split()[-1]
    if (last.endswith("s") and len(last) > 2 and not last.endswith(_SINGULAR_IN_S)) or last in _WITHOUT_ARTICLE:
        return name
    first = re.split(r"[ -]", name)[0]
    if first.isupper() and len(first) <= 4:  # read out letter by letter: an LED, a CD
        vowel = first[0] in "AEFHILMNORSX"
    elif first[0].isdigit():
        vowel = first[0] == "8" or first in ("11", "18")
    else:
        vowel = bool(_SILENT_H.match(first.lower())) or (first[0].lower() in "aeiou" and not _LIKE_YOU.match(first.lower()))
    return f"{'an' if vowel else 'a'} {name}"
