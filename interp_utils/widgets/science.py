"""Widgets of chapter 5: a laboratory for hypotheses, and a report of them to keep."""

import base64
import html
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import ipywidgets
import torch
from torch import Tensor

from .. import plots
from ..science.hypotheses import Finding, Trial
from ..science.twins import Draw
from .base import Explorer, page_of
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

    @lru_cache(64)  # units share texts
    def images(text: str) -> list[dict[str, str]]:
        on, off = draw(text, measured[text].shape[1], seed)
        return [{"on": address(true), "off": address(twin)} for true, twin in zip(on[:5], off[:5])]

    def show(unit: int, text: str) -> str:
        on, off = measured[text][:, :, unit].cpu()
        with pairs.hold_sync():
            pairs.unit, pairs.text, pairs.pairs = names[unit], text, images(text)
            pairs.answers = rounded(torch.stack([on, off], 1))
        return _sentence(table[unit][text], names[unit], bar_of(unit))

    return Explorer(draw_chosen, [pairs], show, page=lambda unit, text: page_of(names[unit]), unit=unit, text=text)


def hypothesis_report(
    findings: Sequence[Finding],
    names: Sequence[str],
    measured: dict[str, Tensor],
    draw: Draw,
    path: str | Path,
    title: str = "Hypotheses",
    seed: int = 0,
) -> Path:
    """Write one HTML file that holds everything: of each hypothesis its pictures, effect, interval and verdict; returns its path.

    Arguments as for `hypothesis_lab`. It opens with a table of all, in which a click leads to a hypothesis; each has a name to
    link to, such as report.html#L9H5-a-red-dog. No script, nothing from the network; pictures have alt texts.
    Raises ValueError where there is no finding.
    """
    if not findings:
        raise ValueError("need at least one finding; run science.investigate first")
    taken: dict[str, int] = {}
    rows, parts = [], []
    for finding in findings:
        test, name = finding.whole, names[finding.whole.unit]
        anchor = "-".join([name, *re.findall(r"\w+", test.text)])
        taken[anchor] = taken.get(anchor, 0) + 1
        anchor += f"-{taken[anchor]}" if taken[anchor] > 1 else ""
        figure, sentence = draw_hypothesis(finding, name, measured, draw, seed)
        source = base64.b64encode(figure.png()).decode()
        picture = f'<img width="{figure.width}" alt="{html.escape(sentence)}" src="data:image/png;base64,{source}">'
        tests = "".join(
            _row([html.escape(t.text), *_numbers(t), "passes" if t.accepted else "fails"]) for t in (test, *finding.parts)
        )
        claims = "claim: " + ", ".join(f"“{text}”" for text in finding.claims) if finding.claims else "no claim"
        head = f'<h2 id="{anchor}"><a href="#{anchor}">{html.escape(f"{name}, “{test.text}”: {finding.verdict}")}</a></h2>'
        parts.append(f"<section>{head}<p>{html.escape(claims)}</p>{picture}<table>{_HEAD.format('test')}{tests}</table></section>")
        link = f'<a href="#{anchor}">{html.escape(test.text)}</a>'
        rows.append(_row([html.escape(name), link, *_numbers(test), finding.verdict, html.escape(", ".join(finding.claims))]))
    verdicts = [finding.verdict for finding in findings]
    counts = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in ("accepted", "refined", "rejected"))
    whole = f"<table><tr><th>unit</th>{_HEAD.format('hypothesis')[4:-5]}<th>claim</th></tr>{''.join(rows)}</table>"
    about = (
        "Effect: mean difference of a pair of images, in the unit's spread over all kinds of images, with a 95 percent interval by "
        "bootstrap over pairs. p: by sign flips, corrected for all tests together."
    )
    body = f"<h1>{html.escape(title)}</h1><p>{len(findings)} hypotheses: {counts}. {about}</p>{whole}{''.join(parts)}"
    path = Path(path)
    path.write_text(_PAGE.format(title=html.escape(title), body=body), encoding="utf-8")
    return path


def _numbers(test: Trial) -> list[str]:
    low, high = test.interval
    return [f"{test.effect:+.2f} ({low:+.2f} to {high:+.2f})", f"{test.cohens_d:+.1f}", f"{test.auc:.2f}", f"{test.p:.2g}"]


def _row(cells: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


_HEAD = "<tr><th>{}</th><th>effect</th><th>Cohen's d</th><th>AUC</th><th>p</th><th>verdict</th></tr>"
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>
<style>body {{font: 16px/1.5 system-ui, sans-serif; max-width: 60em; margin: 1em auto; padding: 0 1em}}
table {{border-collapse: collapse}} td, th {{padding: 2px 10px; border-bottom: 1px solid #ccc; text-align: left}}
img {{max-width: 100%; height: auto}} h2 a {{color: inherit; text-decoration: none}}</style></head>
<body>{body}</body></html>
"""
