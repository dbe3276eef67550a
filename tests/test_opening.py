"""Figures and widgets of chapter 1."""

import datetime
from io import BytesIO

import numpy as np
import pytest
import torch
from small_clips import noise

import interp_utils as iu
from interp_utils import plots, widgets


@pytest.fixture
def explorer(sandbox):
    images = [pixels for pixels, _ in (iu.sandbox.factor_images("object", 3)[k] for k in range(3))]
    return widgets.zero_shot_explorer(sandbox, images, "a dog, a cat, a ship", labels=["one", "two", "three"])


def uploaded_file(spec):
    file = BytesIO()
    iu.sandbox.render(spec).image.save(file, "png")
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    entry = {"name": "mine.png", "type": "image/png", "size": file.tell(), "last_modified": now}
    return ({**entry, "content": memoryview(file.getvalue())},)


def test_every_control_at_both_ends(explorer):
    seen = set()
    ends = {
        "image": (0, 2),
        "names": (
            "a, b",
            ", ".join(f"number {k} of a long list of names that goes on and on" for k in range(widgets.opening.MOST)),
        ),
        "prompt": ("{}", "a picture of {} and {} " + "again " * 60),
    }
    for name, values in ends.items():
        for value in values:
            explorer.controls[name].value = value
            assert "Error" not in explorer.status.value and explorer.alt.startswith("the image is “")
            assert ("so it saw the beginning alone of 24 of 24 texts" in explorer.alt) == ("again" in str(value))
            assert "<img alt=" in explorer.view.value and explorer.png[:4] == b"\x89PNG"
            seen.add(explorer.png)
    assert len(seen) >= 5, "moving a control did not change the picture"


def test_probabilities_are_those_of_the_whole_model(sandbox):
    images = torch.stack([iu.sandbox.factor_images("object", 4)[k][0] for k in range(4)])
    names = ["dog", "ship", "apple"]
    tokens = sandbox.tokenizer([f"a picture of a {name}" for name in names])
    with torch.no_grad():
        image, text, scale = sandbox.model(images, tokens)
    expected = (scale * image @ text.T).softmax(-1)
    assert torch.allclose(widgets.zero_shot(sandbox, images, names, "a picture of a {}"), expected, atol=1e-5)


def test_the_sentence_gives_the_probabilities_in_order(sandbox):
    dog = iu.sandbox.to_pixels(iu.sandbox.render(iu.sandbox.Spec(object="dog")).pixels)
    figure, sentence = widgets.draw_zero_shot(sandbox, dog, " a ship,a dog ,, a cat, a dog")
    p = widgets.zero_shot(sandbox, dog[None], ["a ship", "a dog", "a cat"])[0]
    assert sentence.startswith(f"the image is “a dog” {p[1]:.1%}, ") and sentence.count("a dog") == 1
    heights = [bar.get_width() for bar in figure.axes[1].patches]
    assert heights == pytest.approx((100 * p).tolist(), abs=1e-3)


def test_words_that_were_never_learned_are_named(sandbox):
    dog = iu.sandbox.to_pixels(iu.sandbox.render(iu.sandbox.Spec(object="dog")).pixels)
    figure, sentence = widgets.draw_zero_shot(sandbox, dog, "a dog, a zebra, a cat")
    assert sentence.endswith("never learned a word of “a zebra”, so that bar means nothing")
    labels = [label.get_text() for label in figure.axes[1].get_yticklabels()]
    assert labels == ["a dog", "a zebra (word unknown)", "a cat"]
    assert "never learned" not in widgets.draw_zero_shot(sandbox, dog, "a dog, a cat")[1]


def test_errors_are_shown_and_the_picture_stays(explorer):
    before = explorer.view.value
    for control, wrong, says in (
        ("names", "a dog", "need 2 to 24 different names"),
        ("names", " , a dog,, a dog", "got 1"),
        ("names", ",".join(map(str, range(25))), "got 25"),
        ("prompt", "a picture", "a template needs {} where the text goes"),
        ("prompt", "a picture of %s", "a template needs {} where the text goes"),
        ("prompt", "again " * 60 + "{}", "differ only where they are cut off"),
        ("image", "my own image", "choose a file first"),
    ):
        right = explorer.controls[control].value
        explorer.controls[control].value = wrong
        assert "ValueError" in explorer.status.value and says in explorer.alt and explorer.view.value == before
        explorer.controls[control].value = right
        assert "Error" not in explorer.status.value and explorer.view.value == before
    with pytest.raises(ValueError, match="at least one image"):
        widgets.zero_shot_explorer(None, [], "a dog, a cat")


def test_an_own_image_is_shown_as_soon_as_it_is_there(explorer):
    spec = iu.sandbox.Spec(object="ship", scene="sea")
    explorer.controls["own"].value = uploaded_file(spec)
    assert explorer.controls["image"].value == "my own image"
    pixels = iu.sandbox.to_pixels(iu.sandbox.render(spec).pixels)
    assert explorer.alt == widgets.draw_zero_shot(explorer_clip(explorer), pixels, "a dog, a cat, a ship")[1]
    assert explorer.alt.startswith("the image is “a ship”")


def explorer_clip(explorer):
    return next(cell.cell_contents for cell in explorer.draw.__closure__ if isinstance(cell.cell_contents, iu.Clip))


def test_text_is_escaped_and_braces_are_harmless(explorer):
    explorer.controls["names"].value = '<b>&"quoted", {0} {name}'
    assert "Error" not in explorer.status.value
    assert "<b>&" not in explorer.view.value and "&lt;b&gt;" in explorer.view.value and "{0} {name}" in explorer.alt


@pytest.mark.parametrize("text", ["$x_$", "$5 and $6", r"a $\frac{1", "$$", "_$^$_"])
def test_text_is_never_read_as_mathematics(explorer, text):
    explorer.controls["names"].value = f"a dog, {text}"
    assert "Error" not in explorer.status.value and text in explorer.alt.replace("&#x27;", "'")
    figure = plots.image_grid([torch.rand(3, 8, 8)], [text])
    figure.supxlabel(text), figure.subfigures(1, 1).subplots().set_xticks([0], [text])
    figure.png()
    for part in figure.findobj(lambda artist: getattr(artist, "get_text", str)() == text):
        assert part.get_parse_math() is False, "shown as it was typed"


def test_an_error_in_drawing_is_shown_too(explorer, monkeypatch):
    before, names = explorer.view.value, explorer.controls["names"].value

    def broken(self):
        raise RuntimeError("no ink")

    monkeypatch.setattr(plots.Picture, "png", broken)
    explorer.controls["names"].value = "a key, a bird"
    assert "RuntimeError: no ink" in explorer.status.value and explorer.view.value == before
    monkeypatch.undo()
    explorer.controls["names"].value = names
    assert "Error" not in explorer.status.value and explorer.view.value == before


def test_a_model_that_knows_all_words(tiny):
    sentence = widgets.draw_zero_shot(tiny, noise(tiny, 1)[0], "zebra, xylophone")[1]
    assert "never learned" not in sentence


def test_the_waterfall_ends_at_the_sum():
    values = [0.5, -0.2, 0.4]
    bars = plots.waterfall(["a", "b", "c"], values, "match").axes[0].patches
    starts, ends = [bar.get_y() for bar in bars], [bar.get_y() + bar.get_height() for bar in bars]
    assert starts[0] == starts[-1] == 0 and ends[-1] == pytest.approx(sum(values))
    assert starts[1:3] == pytest.approx(ends[:2]) and ends[2] == pytest.approx(ends[-1])
    assert bars[0].get_facecolor() == bars[2].get_facecolor() != bars[1].get_facecolor()


def test_the_stream_and_what_is_added():
    axis = plots.stream_view([1.0, 2.0, 3.5], [0.5, 0.7], [0.1, 0.9]).axes[0]
    assert [bar.get_height() for bar in axis.patches] == [0.5, 0.7, 0.1, 0.9]
    assert axis.lines[0].get_ydata().tolist() == [1.0, 2.0, 3.5]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["start", "L0", "L1"]
    deep = plots.stream_view([1.0] * 49, [0.5] * 48, [0.1] * 48).axes[0].get_xticklabels()
    assert len(deep) <= 14 and deep[1].get_text() == "L3"


def test_lenses_and_the_world_draw():
    image, table = torch.rand(3, 16, 16), torch.rand(4, 2)
    figure = plots.lens_view(image, {"plain": table, "tuned": 1 - table}, ["a", "b"], true=1)
    assert np.allclose(figure.axes[1].images[0].get_array(), table) and np.allclose(figure.axes[2].images[0].get_array(), 1 - table)
    assert [label.get_fontweight() for label in figure.axes[1].get_xticklabels()] == ["normal", "bold"]
    assert [label.get_text() for label in figure.axes[1].get_yticklabels()] == ["start", "after L0", "after L1", "after L2"]
    world = plots.world_view([image] * 2, [np.eye(16, dtype=bool)] * 2, [["a caption"], ["two", "captions"]])
    assert [axis.texts[0].get_text() for axis in world.axes[2:]] == ["“a caption”", "“two”\n“captions”"]
