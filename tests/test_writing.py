"""Characters that the figures' own font lacks, on a machine with other fonts and on one without."""

import warnings
from pathlib import Path

import matplotlib
import pytest
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font

from interp_utils import plots
from interp_utils.plots import writing


@pytest.fixture
def fonts(monkeypatch):
    """Sets which other fonts the machine has."""
    writing._font.cache_clear()
    yield lambda *families: monkeypatch.setattr(writing, "_others", lambda: [(each, findfont(each)) for each in families])
    writing._font.cache_clear()


def drawn(text: str) -> plots.Picture:
    """A figure with a text as its title and as the label of a tick, drawn without a missing character."""
    figure = plots.Picture(figsize=(3, 1))
    axis = figure.subplots()
    axis.set_title(text)
    axis.set_yticks([0.5], [text])
    axis.set_xticks([0, 1], [5, 6])  # numbers as words
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.png()
        assert figure.png() == figure.png()
    return figure


def test_without_a_font_a_character_is_named(fonts):
    fonts()
    axis = drawn("猫, 🐈, naïve α").axes[0]
    assert axis.get_title() == axis.get_yticklabels()[0].get_text() == "[U+732B], [cat], naïve α"
    assert drawn("a $5 [b]\n(c)").axes[0].get_title() == "a $5 [b]\n(c)"


def test_a_font_of_the_machine_that_has_it_draws_it(fonts):
    file = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "STIXGeneral.ttf"  # comes with matplotlib, as the figures' own
    fontManager.addfont(file)  # its list may be another installation's
    fonts("STIXGeneral")
    own, other = (set(get_font(each).get_charmap()) for each in (findfont(FontProperties()), file))
    character = chr(max(other - own))
    figure = drawn(f"α {character} 猫")
    text = figure.axes[0].title
    assert text.get_text() == f"α {character} [U+732B]" and text.get_fontfamily()[-1] == "STIXGeneral"


def test_a_font_that_cannot_be_opened_is_passed_over(tmp_path):
    broken = tmp_path / "broken.ttf"
    broken.write_bytes(b"no font")
    assert not writing._has(str(broken), "a")
