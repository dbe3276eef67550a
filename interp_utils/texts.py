"""Pools of candidate descriptions, by name: the words in which TextSpan and its relatives may speak."""

import csv
import io
import json
import re
import warnings
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm.auto import tqdm

from . import sandbox
from .checks import checked_count
from .datasets.common import ROOT
from .models import DATA, Clip
from .tokens import cut_off

_NAMES = ("general", "words", "classes", "sandbox")
CACHE = ROOT / "class_descriptions.tsv"  # what a language model wrote about classes
_WORDS = 3498  # as many as the thesis has descriptions and common words
_CSV_HEADER = re.compile(r"(?:\w+[,;])*text(?:[,;]\w+)+|(?:\w+[,;])+text")
_WORD = re.compile(r"[^\W_]+")
_IRREGULAR = {
    "mouse": "mice", "louse": "lice", "goose": "geese", "foot": "feet", "tooth": "teeth", "child": "children", "person": "people",
    "ox": "oxen", "die": "dice", "penny": "pence", "axis": "axes", "oasis": "oases",
}  # fmt: skip


class Pool(NamedTuple):
    """Candidate descriptions, distinct ignoring case, and what each is about."""

    texts: list[str]
    kinds: list[str]  # the kind of each text, "" where unknown


def load_pool(name: str | Path, n: int | None = None, classes: list[str] | None = None) -> Pool:
    """A pool of descriptions: "general" (ours), "words", "classes", "sandbox", or the path of a text file (thesis, section A).

    "words" are the most common English words of three letters or more, 3498 unless n says otherwise; "classes" are the
    `class_descriptions` of `classes`, which the other pools leave alone; "sandbox" has all prompts of the sandbox's facts, their
    factor as kind. A text file is UTF-8 with one text a line, or
    kind<TAB>text on every line; a .csv file has a column "text", and "kind" if it likes; a .json file one list of texts. Blank
    texts and repetitions, ignoring case, are dropped; white space of any kind is one space.
    n: the first so many texts; "general" is shuffled, so its start is a fair sample.
    Raises ValueError for an unknown name, n < 1, an empty pool, no classes, a file not in UTF-8 or of another form,
    FileNotFoundError for no file.
    """
    n = n if n is None else checked_count("n", n)
    if name == "words":
        from wordfreq import iter_wordlist  # a second of every start, which few need

        common = (word for word in iter_wordlist("en") if word.isalpha() and len(word) >= 3)
        return _pool(("word", word) for word in islice(common, n or _WORDS))
    if name == "classes":
        if classes is None:
            raise ValueError('the pool "classes" needs the class names: load_pool("classes", classes=task.classes)')
        pool = class_descriptions(classes)
    elif name == "sandbox":
        pool = _pool((factor, text) for factor, value in sandbox.FACTS for text in sandbox.prompts(factor, value))
    else:
        pool = _pool(_pairs(DATA / "texts" / "general.tsv" if name == "general" else name))
    return Pool(pool.texts[:n], pool.kinds[:n])


def class_descriptions(classes: list[str], writer: Callable[[str], list[str]] | None = None, path: str | Path = CACHE) -> Pool:
    """Descriptions of the images of each class that do not name it, as table A.2 (thesis) asks; the kind of a text is its class.

    They come from our file, which knows the classes of Imagenette and of the sandbox, else from `path`, class<TAB>text on each
    line, else writer(name) writes them, and `path` keeps them: what was stopped goes on. writer: `neurons.class_writer`, or any
    function. Texts that do name the class are left out; one that several classes share counts for the first.
    Raises ValueError for no classes or a blank name, and for classes that are in no file where there is no writer.
    """
    if isinstance(classes, str) or len(classes) == 0 or not all(isinstance(c, str) and c.strip() for c in classes):
        raise ValueError(f"need a list of at least one class name, none of them blank, got {classes!r:.80}")
    names, path = list(dict.fromkeys(" ".join(name.split()) for name in classes)), Path(path).expanduser()
    known: dict[str, list[str]] = {}
    for file in (DATA / "texts" / "classes.tsv", path):
        lines = {}
        for name, text in _pairs(file) if file.is_file() else ():
            lines.setdefault(name.casefold(), []).append(text)
        known = lines | known  # ours come first
    described = {name: _unnamed(name, known.get(name.casefold(), [])) for name in names}
    missing = [name for name in names if not described[name]]
    if missing and writer is None:
        raise ValueError(
            f"no descriptions of {len(missing)} of {len(names)} classes, {', '.join(missing[:3])} the first: have them written, "
            f"with class_descriptions(classes, neurons.class_writer()), or put them into {path}, class<TAB>text on each line"
        )
    for name in tqdm(missing, desc="describing classes", leave=False, disable=not missing):
        written = writer(name)
        described[name] = _unnamed(name, written)
        if not described[name]:
            warnings.warn(f"no description of {name!r} that does not name it; the writer's first: {written[:1]}", stacklevel=2)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a", encoding="utf-8") as file:
            file.writelines(f"{name}\t{text}\n" for text in described[name])
    return _pool((name, text) for name in names for text in described[name])


def _unnamed(name: str, texts: Iterable[str]) -> list[str]:
    texts = [" ".join(text.split()) for text in texts]
    return [text for text in texts if text and not mentions(text, name)]


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
    """The texts of a pool that the model `knows` and reads to their end.

    Raises ValueError when nothing is left, and for a Clip without a tokenizer.
    """
    keep = knows(clip, pool.texts)
    cut = cut_off(clip.tokenizer, pool.texts, clip.tokenizer(pool.texts)).tolist()
    keep = [known and not too_long for known, too_long in zip(keep, cut)]
    if not any(keep):
        raise ValueError(f"{clip.name} knows and reads all tokens of none of these {len(pool.texts)} texts; take another pool")
    texts, kinds = ([item for item, kept in zip(items, keep) if kept] for items in pool)
    return Pool(texts, kinds)


def random_vectors(n: int, width: int, seed: int) -> Tensor:
    """Vectors [n, width] from a unit Gaussian: TextSpan's baseline without text (thesis, figure 2.3 and section A).

    Raises ValueError unless n and width are positive.
    """
    return torch.randn(checked_count("n", n), checked_count("width", width), generator=torch.Generator().manual_seed(seed))


def _pool(pairs) -> Pool:
    """The pool of (kind, text) pairs, without repetitions."""
    distinct = {}
    for kind, text in pairs:
        distinct.setdefault(text.casefold(), (text, kind))
    return Pool([text for text, _ in distinct.values()], [kind for _, kind in distinct.values()])


def _pairs(name: str | Path) -> list[tuple[str, str]]:
    """(kind, text) of each text of a file, in its order."""
    path = Path(name).expanduser()
    if not path.is_file():
        if isinstance(name, str) and name == path.name and not path.suffix:  # one word, so rather a name than a path
            raise ValueError(f"unknown pool {name!r}; choose {', '.join(_NAMES)}, or give the path of a text file, one text a line")
        raise FileNotFoundError(f"no text file {path}; it should hold one text a line, or kind<TAB>text")
    try:
        content = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 ({error}); save it as UTF-8 text") from error
    read = {".json": _from_json, ".csv": _from_csv}.get(path.suffix.lower(), _from_lines)
    pairs = [tuple(" ".join(part.split()) for part in pair) for pair in read(path, content)]
    if not any(text for _, text in pairs):
        raise ValueError(f"{path} holds no text; it should hold one text a line, or kind<TAB>text")
    return [pair for pair in pairs if pair[1]]


def _from_json(path: Path, content: str) -> list[tuple[str, str]]:
    try:
        texts = json.loads(content)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON ({error})") from error
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f'{path} must hold one list of texts, ["a dog", ...], got {texts!r:.80}')
    return [("", text) for text in texts]


def _from_csv(path: Path, content: str) -> list[tuple[str, str]]:
    rows = list(csv.DictReader(io.StringIO(content)))
    rows = [{(name or "").strip().casefold(): cell for name, cell in row.items()} for row in rows]
    wrong = [k for k, row in enumerate(rows, start=1) if "" in row or not isinstance(row.get("text"), str)]
    if wrong or not rows:
        raise ValueError(
            f'{path} needs a first line with the names of its columns, one of them "text", and a cell for each in every row; '
            + (f"row {wrong[0]} is {rows[wrong[0] - 1]!r:.120}" if rows else f"it starts {content[:60]!r}")
        )
    return [(row.get("kind") or "", row["text"]) for row in rows]


def _from_lines(path: Path, content: str) -> list[tuple[str, str]]:
    lines = [(k, line.rstrip().split("\t")) for k, line in enumerate(content.split("\n"), start=1) if line.strip()]
    header = [cell.strip().casefold() for cell in lines[0][1]] if lines else []
    if content.lstrip().startswith(("[", "{")) or (len(header) == 1 and _CSV_HEADER.fullmatch(header[0])):
        raise ValueError(f"{path} looks like JSON or CSV, not like one text a line; give it the ending .json or .csv")
    if header == ["kind", "text"]:
        lines = lines[1:]
    kinds = {len(cells) for _, cells in lines}
    if not kinds <= {1} and not kinds <= {2}:
        usual = 1 if sum(len(cells) == 1 for _, cells in lines) * 2 > len(lines) else 2
        number, cells = next((number, cells) for number, cells in lines if len(cells) != usual)
        raise ValueError(
            f"line {number} of {path} has {len(cells) - 1} tabs where most have {usual - 1}: {' '.join(cells)!r:.60}; "
            "write kind<TAB>text on every line, or no tab at all"
        )
    return [(cells[0] if len(cells) == 2 else "", cells[-1]) for _, cells in lines]


def mentions(text: str, name: str) -> bool:
    """Whether a text has a name as whole words, in the singular or the plural: "two sports cars" has "car", "a scarf" has not."""
    words, wanted = (_WORD.findall(part.casefold()) for part in (text, name))
    places = range(len(words) - len(wanted) + 1)
    return any(all(_same_noun(*pair) for pair in zip(wanted, words[place:])) for place in places)


def _same_noun(one: str, other: str) -> bool:
    return one == other or one in _plurals(other) or other in _plurals(one)


def _plurals(word: str) -> set[str]:
    """What the plural of an English word may be."""
    plurals = {word + "s", *_IRREGULAR.get(word, "").split()}
    if word.endswith(("s", "x", "z", "ch", "sh", "o")):
        plurals.add(word + "es")
    for end, ending in (("y", "ies"), ("f", "ves"), ("fe", "ves"), ("man", "men"), ("us", "i"), ("z", "zzes")):
        if word.endswith(end):
            plurals.add(word.removesuffix(end) + ending)
    return plurals
