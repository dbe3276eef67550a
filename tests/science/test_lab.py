"""The hypothesis lab, the report and their figures."""

import base64
from html.parser import HTMLParser

import pytest
import torch

from interp_utils import plots, science, widgets


@pytest.fixture
def lab():
    noise = 0.1 * torch.randn(2, 8, 2, generator=torch.Generator().manual_seed(0))
    step = torch.tensor([[1.0, 0.0], [0.0, 0.0]])[:, None]  # the first unit answers, the second does not
    texts = ["a dog", "a beach", "something red"]
    measured = {text: noise + step * (k + 1) for k, text in enumerate(texts)}
    ones = torch.ones(2)
    findings = science.investigate(measured, {0: texts[:2], 1: texts[1:]}, ones, 0.5 * ones, lambda text: [text])
    return findings, widgets.hypothesis_lab(findings, ["L0H0", "L5N3"], measured, science.painted_pairs)


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.open = [], []
        self.feed(text)
        assert not self.open, "every element is closed"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.open += [tag] if tag not in ("meta", "img") else []

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_a_report_holds_every_hypothesis_and_needs_nothing_else(tmp_path):
    texts = ["a dog", "a <b>red</b> dog & cat"]
    noise = 0.1 * torch.randn(2, 8, 1, generator=torch.Generator().manual_seed(0))
    measured = {text: noise + torch.tensor([step, 0.0])[:, None, None] for text, step in zip(texts, (1.0, 0.0))}
    ones = torch.ones(1)
    findings = science.investigate(measured, {0: texts}, ones, 0.5 * ones, lambda text: [text])
    draw = lambda text, n, seed: science.painted_pairs("a dog", n, seed)  # noqa: E731
    path = widgets.hypothesis_report(findings * 2, ["L0H0"], measured, draw, tmp_path / "report.html", "Mine & yours")
    content = path.read_text(encoding="utf-8")
    page = Page(content)
    ids = [each["id"] for _, each in page.tags if "id" in each]
    links = [each["href"] for tag, each in page.tags if tag == "a"]
    assert len(ids) == len(set(ids)) == 4 and {f"#{name}" for name in ids} == set(links) and "L0H0-a-dog" in ids
    pictures = [each for tag, each in page.tags if tag == "img"]
    assert len(pictures) == 4 and all(base64.b64decode(p["src"].split("base64,")[1])[:4] == b"\x89PNG" for p in pictures)
    assert pictures[0]["alt"].startswith("L0H0, “a dog”: accepted; effect ")
    assert "http" not in content and "script" not in content and "<b>red" not in content and "Mine &amp; yours" in content
    assert f"{findings[0].whole.effect:+.2f}" in content and "2 accepted, 0 refined, 2 rejected" in content
    with pytest.raises(ValueError, match="run science.investigate first"):
        widgets.hypothesis_report([], [], {}, draw, tmp_path / "none.html")


def test_every_control_at_both_ends(lab):
    findings, explorer = lab
    seen = set()
    for unit in (0, 1):
        explorer.controls["unit"].value = unit
        options = explorer.controls["text"].options
        assert list(options) == [f.whole.text for f in findings if f.whole.unit == unit]
        for text in options:
            explorer.controls["text"].value = text
            assert explorer.alt.startswith(f"{('L0H0', 'L5N3')[unit]}, “{text}”: {('accepted', 'rejected')[unit]}; effect ")
            assert "Error" not in explorer.status.value and explorer.png[:4] == b"\x89PNG"
            seen.add(explorer.png)
    assert len(seen) == 4


def test_the_numbers_are_those_of_the_trial(lab):
    findings, explorer = lab
    trial = findings[0].whole
    assert f"effect {trial.effect:+.2f} spreads" in explorer.alt and f"AUC {trial.auc:.2f}" in explorer.alt


def test_an_empty_lab_says_what_to_do():
    with pytest.raises(ValueError, match="run science.investigate first"):
        widgets.hypothesis_lab([], [], {}, science.painted_pairs)


def test_figures_draw():
    rows = [("L0H0 “a dog”", 0.8, (0.5, 1.0), True), ("L0H1 “a very long text about a dog on the beach”", -0.1, (-0.2, 0.1), False)]
    axis = plots.forest_view(rows, [0.5, 0.5], "effect").axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == [row[0] for row in rows]
    panels = {"heads": (torch.rand(9), torch.rand(9)), "neurons": (torch.rand(9), torch.rand(9))}
    assert len(plots.scatter_row(panels, "truth", "test", {"heads": 0.5, "neurons": 1.0}, 0.8).axes) == 2
    curves = {name: torch.rand(3, 4) for name in ("ranked", "random")}
    axes = plots.circuit_curves({"logits": curves, "accuracy": curves}, [70, 50, 12, 3], {"accuracy": 0.9}, "nodes (%)").axes
    assert [len(axis.lines) for axis in axes] == [2, 3] and [len(axis.collections) for axis in axes] == [2, 2]
    assert axes[0].lines[0].get_ydata() == pytest.approx(curves["ranked"].mean(0).numpy()), "the mean of the draws"
