import warnings

import open_clip
import pytest
import torch
from small_clips import SMALL_TEXT, tiny_model

import interp_utils as iu
from interp_utils.tokens import CutOff, cut_off, fill, tokenise

LONG = "a dog " * 60  # more than any context


def test_templates_are_filled_as_formatting_would():
    templates = ["a photo of a {}.", "{} and {}", lambda name: f"the {name}"]
    assert fill(["cat", "{0} $%s"], templates) == [
        "a photo of a cat.", "cat and cat", "the cat", "a photo of a {0} $%s.", "{0} $%s and {0} $%s", "the {0} $%s",
    ]  # fmt: skip
    assert fill(["cat"]) == ["cat"] and fill(["cat", "cat"], ["a {}"]) == ["a cat", "a cat"]
    assert len(fill(["cat", "dog"], open_clip.OPENAI_IMAGENET_TEMPLATES)) == 160


@pytest.mark.parametrize(
    ("templates", "message"),
    [
        ("a photo of a {}", "need a list of templates"),
        (lambda name: name, "need a list of templates"),
        ([], "need a list of templates"),
        (["a photo"], "needs {} where the text goes"),
        (["a {}", "a photo of a %s"], "needs {} where the text goes, .* got 'a photo of a %s'"),
        (["a photo of a {c}"], "needs {} where"),
        (["a {} %s"], "no other braces or %s"),
        ([3], "needs {} where"),
        ([lambda name: "a photo"], "of its own of each"),
        ([lambda name: None], "of its own of each"),
        ([lambda name: " "], "of its own of each"),
    ],
)
def test_templates_without_a_place_are_refused(tiny, templates, message):
    with pytest.raises(ValueError, match=message):
        tiny.encode_text(["a cat", "a dog"], templates)


def test_texts_that_differ_only_where_they_are_cut_off_are_an_error(tiny, sandbox):
    for clip in (tiny, sandbox):
        context = clip.tokenizer([""]).shape[1]
        for texts in ([LONG + "cat", LONG + "ship"], ["a dog", LONG + "cat", LONG]):
            with pytest.raises(ValueError, match=f"“a dog .*” and “a dog .*” differ only where .* cut off: .* {context} tokens"):
                clip.encode_text(texts)
        with pytest.raises(ValueError, match="differ only where they are cut off"):
            clip.encode_text(["cat", "ship"], [LONG + "{}"])
        with pytest.raises(ValueError, match="differ only where they are cut off"):
            iu.widgets.zero_shot(clip, torch.zeros(1, 3, *clip.image_size), ["cat", "ship"], LONG + "{}")
        fits = " ".join(["dog"] * (context - 2))
        with pytest.raises(ValueError, match="differ only where"):
            clip.encode_text([fits, fits + " dog"])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert clip.encode_text([fits, "a dog", "A  DOG", "a dog"]).shape[0] == 4, "what fits, and what is the same, may be"


def test_a_text_that_is_cut_off_is_named(tiny):
    with pytest.warns(CutOff, match="reads 77 tokens, so it saw the beginning alone of 1 of 2 texts: “a dog a dog .* dog ship”"):
        tiny.encode_text(["a cat", LONG + "ship"])
    with pytest.warns(CutOff, match="2 of 2 texts"):
        tiny.encode_text(["a " + LONG, LONG.upper()])


def test_other_tokenizers(tiny):
    """A function without a context length cuts where nobody sees it; padding may be any number, also that of the end."""
    plain = iu.Clip(tiny_model(), tokenizer=lambda texts: open_clip.tokenize(texts))
    assert plain.encode_text(["a cat", LONG]).shape == (2, 24)

    def padded_with_the_end(texts, context_length=8):
        rows = [[1, *(2 + len(word) for word in text.split())][: context_length - 1] for text in texts]
        return torch.tensor([row + [0] * (context_length - len(row)) for row in rows])

    texts = ["a b c", "a b c d e f", "a b c d e f g", "a " * 40]
    assert cut_off(padded_with_the_end, texts, padded_with_the_end(texts)).tolist() == [False, False, True, True]
    with pytest.raises(ValueError, match="reads 8 tokens"):
        tokenise(padded_with_the_end, texts)
    assert SMALL_TEXT["context_length"] == 77
