"""Schematics name what they draw; every picture says in words what it shows."""

import pytest

from interp_utils import plots
from interp_utils.plots.schematics import DRAWINGS, HEIGHT


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_schematic_has_words_and_its_boxes_keep_apart(name):
    drawing = DRAWINGS[name]
    width, height = drawing.size
    places = {key: (x, y, wide) for key, _, x, y, wide, _ in drawing.boxes}
    assert len(places) == len(drawing.boxes) and {end for arrow in drawing.arrows for end in arrow[:2]} <= set(places)
    for key, (x, y, wide) in places.items():
        assert wide / 2 <= x <= width - wide / 2 and HEIGHT / 2 <= y <= height - HEIGHT / 2, f"{key} leaves the picture"
        near = [k for k, (a, b, w) in places.items() if k != key and abs(x - a) < (wide + w) / 2 and abs(y - b) < HEIGHT]
        assert not near, f"{key} lies on {near}"
    data, about = plots.schematic(name)._repr_png_()
    assert data[:4] == b"\x89PNG" and about == {"width": round(72 * width), "alt": drawing.says}


def test_a_picture_says_in_words_what_it_shows():
    figure = plots.layer_curve({"up": [0, 1]}, "layer", "accuracy\nin %")
    assert figure.alt == "layer, accuracy in %"
    figure.alt = "accuracy grows"
    assert figure._repr_png_()[1]["alt"] == "accuracy grows"
    with pytest.raises(ValueError, match="choose one of clip"):
        plots.schematic("brain")
