"""Texts on their way into a model: templates are filled in, and nothing is cut off in silence."""

import inspect
import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor


class CutOff(UserWarning):
    """A text is longer than what the model reads, so its vector is that of its beginning."""


def fill(texts: Sequence[str], templates: Sequence[str | Callable[[str], str]] | None = None) -> list[str]:
    """Each text in each template, a string with {} or a function; all fillings of a text together.

    Raises ValueError where templates are no list, one has no place for the text, or makes different texts the same.
    """
    if templates is None:
        return list(texts)
    if isinstance(templates, str) or callable(templates) or len(templates) == 0:
        raise ValueError(f"need a list of templates, such as ['a photo of {{}}'], got {templates!r:.80}")
    columns = []
    for template in templates:
        if not callable(template) and not (isinstance(template, str) and _has_place(template)):
            raise ValueError(f"a template needs {{}} where the text goes, and no other braces or %s; got {template!r:.80}")
        columns.append([template(text) if callable(template) else template.replace("{}", text) for text in texts])
        if not all(isinstance(text, str) and text.strip() for text in columns[-1]) or len(set(columns[-1])) < len(set(texts)):
            raise ValueError(f"a template must make a text of its own of each; {template!r:.80} made {columns[-1]!r:.80}")
    return [text for row in zip(*columns) for text in row]


def _has_place(template: str) -> bool:
    rest = template.replace("{}", "")
    return rest != template and not any(mark in rest for mark in ("{", "}", "%s"))


def tokenise(tokenizer, texts: Sequence[str]) -> Tensor:
    """Token ids [T, context] of texts. Warns (`CutOff`) of texts that are too long for the model.

    Raises ValueError where two texts, however written, differ only in what is cut off: the model cannot tell them apart.
    """
    tokens = tokenizer(list(texts))
    cut = cut_off(tokenizer, texts, tokens)
    if not cut.any():
        return tokens
    rows, reads = {}, f"the model reads {tokens.shape[1]} tokens"
    for k in _full(tokenizer, tokens).nonzero()[:, 0].tolist():
        first = texts[rows.setdefault(tuple(tokens[k].tolist()), k)]
        if _plain(first) != _plain(texts[k]):
            raise ValueError(f"{_short(first)} and {_short(texts[k])} differ only where they are cut off: {reads}; shorten them")
    few = ", ".join(_short(texts[k]) for k in cut.nonzero()[:3, 0].tolist())
    warnings.warn(f"{reads}, so it saw the beginning alone of {int(cut.sum())} of {len(texts)} texts: {few}", CutOff, stacklevel=3)
    return tokens


def cut_off(tokenizer, texts: Sequence[str], tokens: Tensor) -> Tensor:
    """Which texts are longer than their tokens [T, context] can say, bool [T].

    Found by asking the tokenizer for twice the length. One without that argument cuts where nobody sees it: none is reported.
    """
    cut, width = _full(tokenizer, tokens), tokens.shape[1]
    if cut.any() and "context_length" in inspect.signature(tokenizer).parameters:
        longer = tokenizer([text for text, full in zip(texts, cut) if full] + [""], context_length=2 * width)
        padding = longer[-1, -1]
        cut[cut.clone()] = (longer[:-1, :width] != tokens[cut]).any(1) | (longer[:-1, width:] != padding).any(1)
        return cut
    return torch.zeros_like(cut)


def _full(tokenizer, tokens: Tensor) -> Tensor:
    """Which rows have no padding left, bool [T]."""
    return (tokens[:, -2:] != tokenizer([""])[0, -1]).any(1)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _short(text: str) -> str:
    return f"“{text}”" if len(text) <= 70 else f"“{text[:40]} … {text[-25:]}”"
