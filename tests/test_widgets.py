import ipywidgets
import pytest
import torch
from conftest import noise

from interp_utils import plots, widgets
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
    assert f"L1H2 adds {expected:+.3f}" in explorer.alt


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
    assert "image/png" in explorer._repr_mimebundle_()
    assert isinstance(explorer, ipywidgets.VBox)


def test_maps_and_grids_draw():
    image = torch.rand(3, 32, 32)
    assert len(plots.image_grid([image] * 5, list("abcde"), columns=4).axes) == 8
    assert len(plots.text_maps([image] * 2, torch.randn(2, 4, 4), ["a", "b"]).axes) == 5
    curve = plots.layer_curve({"up": [0, 1, 2]}, "layer", "accuracy", {"chance": 1})
    assert curve.axes[0].lines[0].get_ydata().tolist() == [0, 1, 2]
    assert plots.unnormalise(torch.zeros(3, 4, 4)).isfinite().all()
