"""Widgets of chapter 5: a laboratory for hypotheses."""

from collections.abc import Sequence

import ipywidgets
import torch
from torch import Tensor

from .. import plots
from ..science.hypotheses import Draw, Finding, Trial
from .base import Explorer
from .controls import Search
from .views import PairView, address, rounded

_STYLE = {"style": {"description_width": "60px"}}


def draw_hypothesis(
    finding: Finding, name: str, measured: dict[str, Tensor], draw: Draw, seed: int = 0, bar: float | None = None
) -> tuple[plots.Picture, str]:
    """Five of a proposal's paired images, the unit's answers to both kinds, and the verdict, with a sentence.

    measured, draw, seed: as in `science.measure`; bar: the unit's, in its spreads, as `science.investigate` takes it.
    """
    test = finding.whole
    on, off = measured[test.text][:, :, test.unit]
    images = [list(part[:5]) for part in draw(test.text, len(on), seed)]
    return plots.hypothesis_view(*images, on, off, f"{name}: {finding.verdict}", test.text), _sentence(finding, name, bar)


def _sentence(finding: Finding, name: str, bar: float | None) -> str:
    test, (low, high) = finding.whole, finding.whole.interval
    needed = "" if bar is None else f"; its bar is {bar * max(1, len(finding.parts)):.2f}"  # k bars for k things
    sentence = (
        f"{name}, “{test.text}”: {finding.verdict}; effect {test.effect:+.2f} spreads ({low:+.2f} to {high:+.2f}{needed}), "
        f"Cohen's d {test.cohens_d:+.1f}, AUC {test.auc:.2f}"
    )
    parts = ", ".join(f"“{part.text}” {part.effect:+.2f}" for part in finding.parts)
    return f"{sentence}; {parts}" if parts else sentence


def hypothesis_lab(
    findings: Sequence[Finding],
    names: Sequence[str],
    measured: dict[str, Tensor],
    draw: Draw,
    seed: int = 0,
    bars: Tensor | None = None,
    start: Trial | None = None,
) -> Explorer:
    """Pick a unit and one of its proposals; see paired images, its answers to them, and the verdict.

    Units stand in the order of their largest effects, with the verdict on the proposal that has it.

    findings: of `science.investigate`; names: of all units; measured, draw, seed: as in `science.measure`;
    bars: of all units, as `science.investigate` takes them; start: the finding to open with, by its `whole`.
    Raises ValueError where there is no finding.
    """
    if not findings:
        raise ValueError("need at least one finding; run science.investigate first")
    table: dict[int, dict[str, Finding]] = {}
    for finding in findings:
        table.setdefault(finding.whole.unit, {})[finding.whole.text] = finding
    start = start or findings[0].whole
    strongest = {k: max(tests.values(), key=lambda each: each.whole.effect) for k, tests in table.items()}
    order = sorted(table, key=lambda k: -strongest[k].whole.effect)
    units = [(f"{names[k]}: {strongest[k].verdict}, {strongest[k].whole.text}", k) for k in order]
    unit = Search(units, start.unit, "unit", **_STYLE)
    text = ipywidgets.Dropdown(options=list(table[start.unit]), value=start.text, description="proposal", **_STYLE)
    # before the explorer listens, so that it never sees a unit with a text of another
    unit.observe(lambda change: setattr(text, "options", list(table[change["new"]])), "value")

    def bar_of(unit: int) -> float | None:
        return None if bars is None else bars[unit].item()

    def draw_chosen(unit: int, text: str) -> tuple[plots.Picture, str]:
        return draw_hypothesis(table[unit][text], names[unit], measured, draw, seed, bar_of(unit))

    pairs = PairView()

    def show(unit: int, text: str) -> str:
        on, off = measured[text][:, :, unit].cpu()
        images = [[address(image) for image in part[:5]] for part in draw(text, len(on), seed)]
        with pairs.hold_sync():
            pairs.unit, pairs.text = names[unit], text
            pairs.pairs = [{"on": true, "off": twin} for true, twin in zip(*images)]
            pairs.answers = rounded(torch.stack([on, off], 1))
        return _sentence(table[unit][text], names[unit], bar_of(unit))

    return Explorer(draw_chosen, [pairs], show, unit=unit, text=text)
