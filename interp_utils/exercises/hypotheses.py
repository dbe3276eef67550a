"""Checks of chapter 5a's exercises."""

import torch

from . import solutions
from .cases import Case, apart, ask, judge, together


def auc(answer, case: Case) -> None:
    def share(on, off, tie=0.5):
        return ((on[:, None] > off).double() + tie * (on[:, None] == off).double()).mean().item()

    while True:  # until there are ties, and each usual mistake gives another number
        n = case.whole(6, 14)
        on, off = ((2 * case.normal(n)).round() / 2 + shift for shift in (0.5, 0))
        wanted, paired = share(on, off), (on > off).double()
        mistakes = [
            ("an image is compared with all twins, not with its own alone", paired.mean().item()),
            ("an image is compared with all twins, not with its own alone", (paired + (on == off) / 2).mean().item()),
            ("where both answer alike it counts one half, not nothing", share(on, off, 0)),
            ("where both answer alike it counts one half, not one", share(on, off, 1)),
            ("the wrong way round: ask how often the true image answers more", 1 - wanted),
            ("that is a difference of means; count who answers more", (on.mean() - off.mean()).item()),
            ("that is the share of true images above the twins' mean", (on > off.mean()).double().mean().item()),
        ]
        if apart(wanted, mistakes):
            break
    judge(ask(answer, on, off), wanted, mistakes)
    fewer = off[: n - case.whole(1, 3)]
    judge(
        ask(answer, on, fewer),
        share(on, fewer),
        otherwise="there may be fewer twins than true images: take the mean over all pairs",
    )


def sign_flip_p(answer, case: Case) -> None:
    while True:
        n, draws = case.whole(6, 12), case.whole(30, 80)
        change = (case.numbers(9, n) - 3).to(case.dtype) / 4  # sums are exact, so that ties are ties
        flips = 2 * case.numbers(2, draws, n).to(case.dtype) - 1
        flips[case.whole(0, draws - 1)] = 1
        means, seen, wanted = (flips * change).mean(1), change.mean(), solutions.sign_flip_p(change, flips)
        mistakes = [
            ("a flip whose mean equals the observed one counts, too", (means > seen).double().mean()),
            ("ask about larger answers only, not about both sides", (means.abs() >= seen).double().mean()),
            ("count flips whose mean is at least the observed one, not those below it", (means <= seen).double().mean()),
            ("compare with the observed mean, not with zero", (means >= 0).double().mean()),
            ("compare with the observed mean, not with zero", (means > 0).double().mean()),
            ("that counts pairs, and looks at no flip", (change <= 0).double().mean()),
            ("that is how many flips there are; return their share", wanted * draws),
        ]
        if 0.02 < wanted < 0.4 and apart(wanted, mistakes):
            break
    judge(ask(answer, change, flips), wanted, mistakes)
    other = solutions.sign_flip_p(-change, flips)
    judge(ask(answer, -change, flips), other, otherwise="a difference in the wrong direction is no evidence: ask about one side")


def corrected_p(answer, case: Case) -> None:
    while True:
        p = case.uniform(case.whole(5, 9)) ** 2
        n, order, wanted = len(p), p.argsort(), solutions.corrected_p(p)
        rank = order.argsort()  # 0 for the smallest
        holm, times = (n - rank) * p, torch.arange(n, 0, -1).to(p)
        false_rate = (n / torch.arange(1, n + 1).to(p) * p[order]).flip(0).cummin(0).values.flip(0)[rank]
        mistakes = [
            ("these are the p-values as they came", p),
            ("that multiplies each by the number of tests (Bonferroni); the next smallest by one less", (n * p).clamp(max=1)),
            ("no p-value may fall below that of a smaller one: take the running maximum", holm.clamp(max=1)),
            ("a p-value is at most 1", (times * p[order]).cummax(0).values[rank]),
            ("put them back in the order in which they came", wanted[order]),
            (
                "that is for the rate of false discoveries (Benjamini and Hochberg); a smaller p is multiplied by more",
                false_rate.clamp(max=1),
            ),
            ("the smallest p is multiplied by the number of tests, the largest by 1", ((rank + 1) * p).clamp(max=1)),
        ]
        if all((value - wanted).abs().max() > 1e-2 for _, value in mistakes):
            break
    judge(ask(answer, p), wanted, mistakes)


def effect_in_spreads(answer, case: Case) -> None:
    while True:
        n, width = case.whole(8, 20), case.whole(3, 5)
        outputs = case.normal(case.whole(1500, 2500), width) * (0.3 + 2 * case.uniform(width)) + 3 * case.normal(width)
        on, off = case.normal(n) + 2 * case.normal(1), case.normal(n)
        change, variances = (on - off).mean().item(), outputs.var(0)
        wanted = solutions.effect_in_spreads(on, off, outputs)
        spreads = [
            ("divide by the unit's spread over images, not by that of the differences (Cohen's d)", (on - off).std()),
            ("add up the variances of the dimensions, then take one root", variances.sqrt().sum()),
            ("add up the variances of the dimensions; do not average", variances.mean().sqrt()),
            ("each dimension varies about its own mean", outputs.std()),
            ("the spread is the root of the variance", variances.sum()),
            ("variance is about the mean of the outputs", outputs.square().sum(1).mean().sqrt()),
            ("the spread is missing: divide by it", 1),
            ("that is one dimension of the output; take all together", variances.max().sqrt()),
        ]
        mistakes = [(words, change / float(spread)) for words, spread in spreads]
        mistakes.append(("true image less twin, not the other way round", -wanted))
        mistakes.append(("an effect has a sign: keep it", abs(wanted)))
        if abs(wanted) > 0.1 and apart(wanted, mistakes[:-1]):
            break
    judge(ask(answer, on, off, outputs), wanted, mistakes)


def precision_and_recall(answer, case: Case) -> None:
    while True:
        shape = case.whole(3, 6), case.whole(5, 9)
        true, claimed = case.uniform(*shape) < 0.5, case.uniform(*shape) < 0.4
        both, either = (claimed & true).double(), (claimed | true).double()
        if not (claimed.any(1).all() and true.any(1).all() and both.any()):
            continue
        precision, recall = (both.sum() / claimed.sum()).item(), (both.sum() / true.sum()).item()
        shared = [
            ("that is the share of all cells on which the two tables agree", (claimed == true).double().mean()),
            ("divide by what is claimed, or by what is true, not by either", both.sum() / either.sum()),
            ("that is how many claims are true; return shares", both.sum()),
            ("that is a share of all cells", both.mean()),
        ]
        of_claims = [
            ("precision comes first, then recall", recall),
            *shared,
            ("count over all units together, not unit by unit", (both.sum(1) / claimed.sum(1)).mean()),
        ]
        of_truth = [*shared, ("count over all units together, not unit by unit", (both.sum(1) / true.sum(1)).mean())]
        if apart(precision, of_claims) and apart(recall, of_truth):
            break
    first, second = together(ask(answer, claimed, true), "precision", "recall")
    judge(first, precision, of_claims, "the precision is not right")
    judge(second, recall, of_truth, "the precision is right, the recall is not")
