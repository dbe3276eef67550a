"""Hypotheses from any source, tested in rounds: what is rejected is told to whoever proposes the next ones."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ..neurons.generate import parse_descriptions
from .hypotheses import Finding

UNTESTABLE = "untestable"


@dataclass(frozen=True)
class Entry:
    """One proposal in the log of `investigate_rounds`."""

    round: int
    unit: int
    text: str
    finding: Finding | None  # None where the text could not be tested

    @property
    def verdict(self) -> str:
        """accepted, refined, rejected or untestable"""
        return UNTESTABLE if self.finding is None else self.finding.verdict


@dataclass(frozen=True)
class Evidence:
    """What a proposer knows of a unit when it is asked."""

    name: str
    shown: Sequence[str]  # in words, what the images show to which the unit answers most; may be empty
    tried: Sequence[Entry]  # what was proposed for this unit before, and what became of it
    wanted: int  # at most so many texts will be tested


Propose = Callable[[int, Evidence], Sequence[str]]  # a unit's number, what is known of it -> texts, the best first


def from_lists(ranked: Mapping[int, Sequence[str]]) -> Propose:
    """A proposer that reads from a list of texts for each unit, such as those of TextSpan or sparse texts: the next."""

    def propose(unit: int, evidence: Evidence) -> list[str]:
        known = {entry.text for entry in evidence.tried}
        return [text for text in ranked.get(unit, ()) if text not in known][: evidence.wanted]

    return propose


def from_language_model(ask: Callable[[str, int], str]) -> Propose:
    """A proposer that asks a language model: ask(request, seed) -> its reply, one text a line, such as `neurons.chat(model_id)`.

    It is told what the images show and what became of earlier proposals. The seed is the number of those, so that it may try again.
    """

    def propose(unit: int, evidence: Evidence) -> list[str]:
        lines = ["A part of a vision model answers to some images more than to others. Say what those have in common."]
        if evidence.shown:
            lines += ["The images to which it answers most show:", *(f"- {text}" for text in evidence.shown)]
        if evidence.tried:
            lines += ["Earlier guesses, and what an experiment said of each:"]
            lines += [f"- {entry.text}: {_outcome(entry)}" for entry in evidence.tried]
        lines.append(f"Give {evidence.wanted} other short descriptions, such as 'a red dog', one a line, and nothing else.")
        known = {entry.text for entry in evidence.tried}
        replied = dict.fromkeys(parse_descriptions(ask("\n".join(lines), len(evidence.tried))))
        return [text for text in replied if text not in known][: evidence.wanted]

    return propose


def _outcome(entry: Entry) -> str:
    if entry.finding is None:
        return "no images could be made to test it"
    return f"{entry.verdict}, effect {entry.finding.whole.effect:+.2f}"


def investigate_rounds(
    propose: Propose,
    names: Mapping[int, str],
    test: Callable[[dict[int, list[str]], float], list[Finding]],
    testable: Callable[[str], bool],
    budget: int,
    shown: Mapping[int, Sequence[str]] | None = None,
    per_round: int = 3,
    rounds: int = 3,
    level: float = 0.05,
) -> list[Entry]:
    """Ask for texts, test them, and ask again for the units that have no claim yet: the log of all proposals, in order.

    names: of the units to investigate, by number. test: proposals by unit and a level -> findings, see `investigate`; each round is
    tested at level / rounds, so that false claims of all rounds together are as rare as the level says. testable: whether
    images for a text can be made; a text for which they cannot is logged and costs nothing. budget: texts to test in all.
    shown: see `Evidence`; per_round: texts for each unit and round.
    It ends where the budget is spent, the rounds are over, every unit has a claim, or nobody proposes. A text that a unit had
    before is left out. Raises ValueError for a budget, rounds or texts a round below 1.
    """
    if min(budget, per_round, rounds) < 1:
        raise ValueError(f"need at least 1 text to test, 1 a round and 1 round, got {budget}, {per_round} and {rounds}")
    log: list[Entry] = []
    for number in range(rounds):
        claimed = {entry.unit for entry in log if entry.finding is not None and entry.finding.claims}
        asked, strange = {}, []
        for unit in names:
            wanted = min(per_round, budget - sum(map(len, asked.values())))
            if unit in claimed or wanted < 1:
                continue
            tried = [entry for entry in log if entry.unit == unit]
            known = {entry.text for entry in tried}
            said = propose(unit, Evidence(names[unit], (shown or {}).get(unit, ()), tried, wanted))
            if isinstance(said, str):
                raise TypeError(f"a proposer gives a list of texts, got the text {said!r:.80}")
            new = [text for text in dict.fromkeys(said) if text not in known]
            possible = {text: testable(text) for text in new}
            strange += [Entry(number, unit, text, None) for text, can in possible.items() if not can]
            if chosen := [text for text, can in possible.items() if can][:wanted]:
                asked[unit] = chosen
        log += strange
        if not asked and not strange:
            break
        if asked:
            budget -= sum(map(len, asked.values()))
            log += [Entry(number, finding.whole.unit, finding.whole.text, finding) for finding in test(asked, level / rounds)]
    return log
