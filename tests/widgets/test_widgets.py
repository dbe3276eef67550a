import ipywidgets
import pytest
import torch
from small_clips import noise

import interp_utils as iu
from interp_utils import heads, plots, widgets
from interp_utils.heads import direct_effects


@pytest.fixture
def explorer(tiny):
    return widgets.head_explorer(tiny, list(noise(tiny, 3)), ["a cat", "a ship"], "a dog")


def test_every_control_at_both_ends(tiny, explorer):
    seen = set()
    for name, ends in {"layer": (0, 1), "head": (0, 3), "image": (0, 2), "text": ("x", "a very " + "long " * 60)}.items():
        for value in ends:
            explorer.controls[name].value = value
            assert explorer.alt.startswith(f"L{explorer.controls['layer'].value}H{explorer.controls['head'].value} adds")
            assert "<img alt=" in explorer.view.value and explorer.png[:4] == b"\x89PNG"
            seen.add(explorer.png)
    assert len(seen) >= 6, "moving a control did not change the picture"


def test_the_number_shown_is_the_heads_share_of_the_match(tiny, explorer):
    explorer.controls["layer"].value, explorer.controls["head"].value = 1, 2
    fx = direct_effects(tiny, noise(tiny, 3)[:1])
    direction = widgets.text_direction(tiny, "a dog", ["a cat", "a ship"])
    expected = (fx.heads()[0, 1, 2] @ direction / fx.total()[0].norm()).item()
    assert f"L1H2 adds {expected:+.2g} " in explorer.alt


def test_errors_are_shown_and_the_picture_stays(explorer):
    before = explorer.view.value
    explorer.controls["text"].value = "  "
    assert "ValueError" in explorer.status.value and explorer.view.value == before
    explorer.controls["text"].value = "a dog"
    assert "Error" not in explorer.status.value


def test_an_error_at_the_start_is_raised(tiny):
    with pytest.raises(ValueError, match="at least one text"):
        widgets.head_explorer(tiny, list(noise(tiny, 1)), ["a cat"], "")
    with pytest.raises(ValueError, match="at least one image"):
        widgets.head_explorer(tiny, [], ["a cat"], "a dog")
    with pytest.raises(IndexError, match="no head L0H9"):
        widgets.draw_head(tiny, noise(tiny, 1)[0], 0, 9, "a dog", ["a cat"])


def test_text_is_escaped_and_the_bundle_holds_a_picture(explorer):
    explorer.controls["text"].value = '<b>&"quoted"'
    assert '<b>&"' not in explorer.view.value and "&lt;b&gt;" in explorer.view.value
    data, about = explorer._repr_mimebundle_()
    assert "image/png" in data and about["image/png"]["width"] > 100
    assert isinstance(explorer, ipywidgets.VBox)


def test_maps_and_grids_draw():
    image = torch.rand(3, 32, 32)
    assert len(plots.image_grid([image] * 5, list("abcde"), columns=4).axes) == 8
    assert len(plots.overlays([image] * 2, torch.randn(2, 4, 4), ["a", "b"]).axes) == 5
    curve = plots.layer_curve({"up": [0, 1, 2]}, "layer", "accuracy", {"chance": 1})
    assert curve.axes[0].lines[0].get_ydata().tolist() == [0, 1, 2]
    assert len(plots.layer_curve({str(k): [k, k] for k in range(9)}, "layer", "accuracy").axes[0].lines) == 9
    assert plots.unnormalise(torch.zeros(3, 4, 4)).isfinite().all()


@pytest.fixture
def spans(tiny):
    images = [(image, 0) for image in noise(tiny, 12)]
    texts = [f"text {k}" for k in range(9)]
    features = torch.randn(9, tiny.d_embed, generator=torch.Generator().manual_seed(0))
    found = {head: heads.textspan(seen, features, texts, 5) for head, seen in heads.head_moments(tiny, images).items()}
    return images, found, heads.top_images(tiny, images, found, features, k=3)


def test_span_explorer_at_every_head(spans):
    images, found, tops = spans
    explorer, seen = widgets.span_explorer(images, found, tops), set()
    for (layer, head), span in found.items():
        explorer.controls["layer"].value, explorer.controls["head"].value = layer, head
        assert explorer.alt.startswith(f"L{layer}H{head}: “{span.texts[0]}”") and "Error" not in explorer.status.value
        assert f"{span.explained[:6].sum():.0%}" in explorer.alt
        seen.add(explorer.png)
    assert len(seen) == len(found)
    two = {head: found[head] for head in ((0, 3), (1, 1))}
    assert "overlap most with those of L0H3" in widgets.draw_span(images, two, tops, 1, 1)[1], "some heads alone will do"
    with pytest.raises(IndexError, match="no text span for L5H0"):
        widgets.draw_span(images, found, tops, 5, 0)
    with pytest.raises(ValueError, match="at least one"):
        widgets.span_explorer(images, {}, tops)


def test_overlap_of_text_spans(spans):
    _, found, _ = spans
    first, second = list(found.values())[:2]
    assert first.overlap(first) == pytest.approx(1) and first.overlap(second) == pytest.approx(second.overlap(first))
    expected = (first.directions @ second.directions.T).square().sum().item() / 5
    assert first.overlap(second) == pytest.approx(expected) and 0 <= expected < 1


def test_neighbour_explorer(sandbox):
    images = iu.sandbox.factor_images("object", 20)
    features = heads.head_features(sandbox, images, [(7, 2), (6, 0)])
    explorer = widgets.neighbour_explorer(images, features, ["scene head", "object head"])
    for image in (0, 19):
        for head in ((7, 2), (6, 0)):
            explorer.controls["image"].value, explorer.controls["head"].value = image, head
            shared = heads.shared_factors(images.specs, image, heads.neighbours(features[head], image, 8))
            assert f"scene {shared['scene']:.0%} /" in explorer.alt and f"by L{head[0]}H{head[1]} /" in explorer.alt
    plain = [(pixels, 0) for pixels, _ in (images[k] for k in range(20))]
    assert widgets.draw_neighbours(plain, features, 3, (6, 0))[1].startswith("8 nearest images by L6H0")
    with pytest.raises(ValueError, match="at least one head"):
        widgets.neighbour_explorer(images, {None: features[None]})


def test_tables_and_figures_show_what_they_are_given():
    table = plots.Table(["head", "share"], [["L0H1 <b>", 12.345]])
    assert "12.3" in repr(table) and "L0H1 &lt;b&gt;" in table._repr_html_()
    grid = plots.factor_grid(["L0H0", "L0H1"], {"object": [0.5, 0.2], "scene": [0.1, -0.01]}, ["object", "scene"])
    assert grid.axes[0].images[0].get_array().tolist() == [[50, 20], [10, -1]]
    assert [frame.get_linestyle() for frame in grid.axes[0].patches] == ["-", "--"], "the second head is named wrongly"
    said = [text.get_text() for text in grid.axes[0].texts]
    assert said == ["50", "10", "20", "-1"], "small shares are left out, but for that of the framed cell"
    row = plots.curve_row({"a": {"x": [1, 2]}, "b": {"x": [3, 4]}}, [1, 2], "size", "accuracy")
    assert [axis.lines[0].get_ydata().tolist() for axis in row.axes] == [[1, 2], [3, 4]] and row.axes[0].get_legend() is None
    row = plots.curve_row({"a": {"x": [1, 2]}, "b": {"y": [3, 4]}}, [1, 2], "size", "accuracy", chance={"b": 0.5})
    assert all(axis.get_legend() for axis in row.axes) and len(row.axes[0].lines) == 1 and len(row.axes[1].lines) == 2
    image = torch.rand(3, 32, 32)
    assert len(plots.head_maps([image], torch.randn(1, 2, 4, 4), ["a"], ["b"]).axes) == 4  # the last is the colour bar


def limits(figure):
    """Of the maps of a figure, by their titles."""
    return {axis.get_title(): axis.images[1].get_clim() for axis in figure.axes if len(axis.images) == 2 and axis.get_title()}


def test_maps_that_are_compared_share_a_scale():
    image, mask = torch.rand(3, 32, 32), torch.zeros(32, 32)
    mask[8:16, 8:16] = 1
    maps = {"ours": torch.full((2, 4, 4), 2.0), "theirs": torch.full((2, 4, 4), -8.0), "others": torch.full((2, 4, 4), 0.5)}
    units = {"ours": "score", "theirs": "score", "others": "activation"}
    figure = plots.method_maps([image] * 2, maps, units, [mask] * 2)
    assert limits(figure) == {"ours": (-8, 8), "theirs": (-8, 8), "others": (-0.5, 0.5)}
    assert [axis.get_xlabel() for axis in figure.axes if axis.get_xlabel()] == ["score", "activation"], "a bar for each unit"
    own = plots.method_maps([image] * 2, maps)
    assert set(limits(own).values()) == {(-1, 1)}
    assert [float(axis.images[1].get_array().max()) for axis in own.axes if axis.get_title() in maps] == [1, -1, 1]
    assert "largest value" in own.alt, "the bar says that each map has a scale of its own"
    assert plots.method_maps([image], {"none": torch.zeros(1, 4, 4)}).png()


def test_no_label_of_a_bar_crosses_the_line_at_zero():
    texts, weights = ["an object on the sand", "a very long text " * 4, "trees"], [0.6, -0.4, 0.2]
    figure = plots.neuron_view("L0N1", texts, weights, [torch.rand(3, 8, 8)] * 2, [0.1, 0.2], torch.randn(2, 4, 4))
    figure.png()
    axis = figure.axes[0]
    left = axis.get_window_extent().x0
    labels = axis.get_yticklabels()
    assert [label.get_text()[-5:] for label in labels] == ["+0.60", "-0.40", "+0.20"] and not axis.texts
    assert all(label.get_window_extent().x1 <= left for label in labels)
    assert [bar.get_width() for bar in axis.patches] == weights


def test_bars_show_their_intervals():
    bars = {"one": [iu.statistics.Interval(3.0, 1.0), iu.statistics.Interval(2.0, 0.5)], "two": [1.0, 2.0]}
    axis = plots.value_bars(bars, ["a", "b"], "points", "head").axes[0]
    assert [bar.get_height() for bar in axis.patches] == [3, 2, 1, 2]
    (lines,) = axis.collections
    assert [segment[:, 1].tolist() for segment in lines.get_segments()] == [[2, 4], [1.5, 2.5]]
    assert axis.get_xlabel() == "head"
