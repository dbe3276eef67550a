"""Checks of chapter 5b's exercises."""

import torch
from torch import nn

from . import solutions
from .cases import Case, apart, ask, judge


def in_circuit(answer, case: Case) -> None:
    images, nodes = case.whole(3, 5), case.whole(4, 7)
    masks = torch.stack([(case.order(nodes) < case.whole(1, nodes - 1)).to(case.dtype) for _ in range(images)])
    masks[0, :2], masks[1, :2] = torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0])  # not all alike
    for tokens in (images, case.whole(6, 8)):  # where they are as many as images, what mixes them up still runs
        activations, means = case.normal(images, tokens, nodes), 2 + case.normal(tokens, nodes)
        stays = masks[:, None].bool()
        mistakes = [
            ("no node was held", activations),
            ("all nodes were held", means.expand_as(activations)),
            ("the wrong way round: a node with a 1 stays as it is", torch.where(stays, means, activations)),
            ("what is not in the circuit stands at its mean, not at zero", activations * masks[:, None]),
            ("use the means that are given, not those of these images", torch.where(stays, activations, activations.mean(0))),
            ("each token has its own mean", torch.where(stays, activations, means.mean(0))),
            ("each image has its own mask; that is the first one's for all", torch.where(stays[:1], activations, means)),
        ]
        if tokens == images:
            mistakes.append(("a mask belongs to an image, not to a token", torch.where(masks.bool(), activations, means)))
        judge(ask(answer, activations, means, masks), solutions.in_circuit(activations, means, masks), mistakes)


def attribution(answer, case: Case) -> None:
    images, tokens, nodes = case.whole(2, 5), case.whole(3, 5), case.whole(4, 7)
    activations, means = case.normal(images, tokens, nodes), 1 + case.normal(tokens, nodes)
    model, read = nn.Linear(nodes, 3).to(case.dtype), case.normal(tokens, 3)
    model.weight.data, model.bias.data = case.normal(3, nodes), case.normal(3)

    def score(x):  # a small model
        return (torch.tanh(model(x)) * read).sum((1, 2))

    def gradient(at):
        leaf = at.clone().requires_grad_()
        return torch.autograd.grad(score(leaf).sum(), leaf)[0]

    def without(n):
        held = activations.clone()
        held[..., n] = means[:, n]
        return (score(activations) - score(held)).mean()

    own, away = gradient(activations), activations - means
    parts = (away * own).sum(1)
    mistakes = [
        ("multiply the gradient by the activation less its mean, not by the activation", (activations * own).sum(1).mean(0)),
        ("activation less mean, not mean less activation: a node that helps has a positive score", -parts.mean(0)),
        ("that is the gradient alone: how far is each activation from its mean?", own.sum(1).mean(0)),
        ("that is how far activations are from their means; the gradient is missing", away.sum(1).mean(0)),
        ("take the gradient at the activations, not at their means", (away * gradient(means.expand_as(away))).sum(1).mean(0)),
        (
            "that is exact patching, one run for each node; one gradient gives an estimate for all",
            torch.stack([*map(without, range(nodes))]).detach(),
        ),
        ("add up over tokens, then take the mean over images", parts.sum(0)),
        ("add up over tokens; do not average over them", (away * own).mean((0, 1))),
        ("a score has a sign: keep it", parts.abs().mean(0)),
        ("all tokens count, not the first alone", (away * own)[:, 0].mean(0)),
    ]
    found = ask(answer, score, activations, means)
    assert not (activations.requires_grad or means.requires_grad), "changes its argument: it asks for gradients now; work on a copy"
    reached = any(weight.grad is not None for weight in model.parameters())
    assert not reached, "the gradient reached the model's weights: ask for that of the activations alone (`torch.autograd.grad`)"
    judge(found, parts.mean(0), mistakes)


def recovered_share(answer, case: Case) -> None:
    while True:
        n = case.whole(5, 30)
        empty, gain = case.normal(n) + 2 * case.normal(1), 1.5 + case.uniform(n)
        where = (-0.3, 0.5, 1.4)[case.whole(0, 2)]  # below the empty circuit, between, and above the whole model
        whole, circuit = empty.mean() + gain, empty.mean() + where * gain + 0.3 * case.normal(n)
        wanted = solutions.recovered_share(circuit, empty, whole)
        mistakes = [
            ("the empty circuit recovers nothing: subtract it from both", (circuit.mean() / whole.mean()).item()),
            ("subtract the empty circuit above and below", ((circuit.mean() - empty.mean()) / whole.mean()).item()),
            ("take means over images first, then one ratio", ((circuit - empty) / (whole - empty)).mean().item()),
            ("that is what is lost; return what is recovered", 1 - wanted),
            ("divide by what the whole model gains", (circuit.mean() - empty.mean()).item()),
        ]
        if apart(wanted, mistakes):
            break
    mistakes.append(("it may be below 0 or above 1: do not cut it", min(max(wanted, 0.0), 1.0)))
    mistakes.append(("it may be below 0: keep the sign", abs(wanted)))
    judge(ask(answer, circuit, empty, whole), wanted, mistakes)
    for words, end, value in (("the empty circuit recovers nothing", empty, 0.0), ("the whole model recovers all", whole, 1.0)):
        judge(ask(answer, end, empty, whole), value, otherwise=words)


def mediated_share(answer, case: Case) -> None:
    while True:
        n, width = case.whole(4, 9), case.whole(3, 6)
        intact = case.normal(n, width)
        direct, mediated = (scale * torch.exp(case.normal(n, 1)) * case.normal(n, width) for scale in (1, 0.7))
        frozen, anew = intact - direct, intact - direct - mediated
        wanted = solutions.mediated_share(intact, anew, frozen)

        def share(x, y, length):
            return (length(x) / (length(x) + length(y))).item()

        def rms(x):
            return x.square().sum(-1).mean().sqrt()

        mistakes = [
            ("that is the share of the direct part", 1 - wanted),
            ("the direct part is what is left with attention frozen: intact less frozen", share(mediated, mediated + direct, rms)),
            ("divide by the sum of both lengths, not by the length of the sum", (rms(mediated) / rms(mediated + direct)).item()),
            ("divide by the sum of both lengths, not by the other's", (rms(mediated) / rms(direct)).item()),
            ("take the root mean square of the lengths, not their mean", share(mediated, direct, lambda x: x.norm(dim=-1).mean())),
            ("take lengths image by image, not of the mean effect", share(mediated, direct, lambda x: x.mean(0).norm())),
            ("take the roots before you divide", share(mediated, direct, lambda x: x.square().sum())),
            ("that compares the outputs themselves; take differences first", share(frozen, anew, rms)),
        ]
        if apart(wanted, mistakes):
            break
    judge(ask(answer, intact, anew, frozen), wanted, mistakes)


def interaction(answer, case: Case) -> None:
    a, b = case.order(50)[:2].tolist()
    none, first, second, both = case.normal(4, case.whole(3, 7)) + 2 * case.normal(4, 1)
    table = {(): none, (a,): first, (b,): second, (a, b): both, (b, a): both}

    def score(*neurons):
        if neurons not in table:
            raise ValueError(f"score takes neurons {a} and {b}, each at most once, as score({a}, {b}); got {neurons}")
        return table[neurons].clone()

    wanted = solutions.interaction(score, a, b)
    mistakes = [
        ("the other way round: positive where each backs the other up", -wanted),
        ("an effect is how far the score falls, none less what is left; these are scores", both - first - second),
        ("that is the effect of both; subtract what each does alone", none - both),
        ("subtract the effects of both neurons, not of one", (none - both) - (none - first)),
        ("subtract the effects of both neurons, not of one", (none - both) - (none - second)),
        ("return one number for each image", wanted.mean()),
        ("an interaction has a sign: keep it", wanted.abs()),
    ]
    found = ask(answer, score, a, b)
    assert getattr(found, "shape", None) != (), mistakes[-2][0]
    judge(found, wanted, mistakes)
