"""Widgets of chapter 5: a laboratory for hypotheses."""

from collections.abc import Sequence

import ipywidgets
from torch import Tensor

from .. import plots
from ..science.hypotheses import Draw, Finding
from .base import Explorer

_STYLE = {"style": {"description_width": "60px"}}


def draw_hypothesis(
    finding: Finding, name: str, measured: dict[str, Tensor], draw: Draw, seed: int = 0
) -> tuple[plots.Picture, str]:
    """Five of a proposal's paired images, the unit's answers to both kinds, and the verdict, with a sentence.

    measured, draw, seed: as in `science.measure`.
    """
    test = finding.whole
    on, off = measured[test.text][:, :, test.unit]
    images = [list(part[:5]) for part in draw(test.text, len(on), seed)]
    low, high = test.interval
    figure = plots.hypothesis_view(*images, on, off, f"{name}: {finding.verdict}", test.text)
    sentence = (
        f"{name}, “{test.text}”: {finding.verdict}; effect {test.effect:+.2f} spreads ({low:+.2f} to {high:+.2f}), "
        f"Cohen's d {test.cohens_d:+.1f}, AUC {test.auc:.2f}"
    )
    if finding.parts:
        sentence += "; " + ", ".join(f"“{part.text}” {part.effect:+.2f}" for part in finding.parts)
    return figure, sentence


def hypothesis_lab(
    findings: Sequence[Finding], names: Sequence[str], measured: dict[str, Tensor], draw: Draw, seed: int = 0
) -> Explorer:
    """Pick a unit and one of its proposals; see paired images, its answers to them, and the verdict.

    findings: of `science.investigate`; names: of all units; measured, draw, seed: as in `science.measure`.
    Raises ValueError where there is no finding.
    """
    if not findings:
        raise ValueError("need at least one finding; run science.investigate first")
    table: dict[int, dict[str, Finding]] = {}
    for finding in findings:
        table.setdefault(finding.whole.unit, {})[finding.whole.text] = finding
    start = findings[0].whole
    unit = ipywidgets.Dropdown(options=[(names[k], k) for k in table], value=start.unit, description="unit", **_STYLE)
    text = ipywidgets.Dropdown(options=list(table[start.unit]), value=start.text, description="proposal", **_STYLE)
    # before the explorer listens, so that it never sees a unit with a text of another
    unit.observe(lambda change: setattr(text, "options", list(table[change["new"]])), "value")

    def draw_chosen(unit: int, text: str) -> tuple[plots.Picture, str]:
        return draw_hypothesis(table[unit][text], names[unit], measured, draw, seed=seed)

    return Explorer(draw_chosen, unit=unit, text=text)
