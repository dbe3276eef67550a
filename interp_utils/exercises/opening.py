"""Checks of chapter 1's exercises."""

import torch
from torch import nn

from . import solutions
from .cases import Case, ask, judge


def zero_shot(answer, case: Case) -> None:
    images, texts = 3 * case.normal(case.whole(2, 6), 5), case.normal(case.whole(3, 7), 5) * (0.2 + case.uniform(1, 5))
    scale = 1 + 20 * case.uniform(())
    i, t = (nn.functional.normalize(x, dim=-1) for x in (images, texts))
    cosines = i @ t.T
    mistakes = [
        ("that is a softmax over the images; each image's probabilities must add up to 1", (scale * cosines).softmax(0)),
        ("the vectors have lengths of their own: divide each by its norm first", (scale * images @ texts.T).softmax(-1)),
        ("the texts still have their own lengths", (scale * i @ texts.T).softmax(-1)),
        (
            "one length for all vectors together; take the norm along the last axis, and keep that axis to divide by",
            (scale * (images / images.norm()) @ (texts / texts.norm()).T).softmax(-1),
        ),
        ("the scale is missing: multiply the cosines by it before the softmax", cosines.softmax(-1)),
        ("these are scaled cosines, not yet probabilities", scale * cosines),
        ("these are cosines, not yet probabilities", cosines),
    ]
    judge(ask(answer, images, texts, scale), solutions.zero_shot(images, texts, scale), mistakes)


def network(case: Case) -> tuple[nn.Sequential, nn.Module, int]:
    """A small network on [images, tokens, 3], one of its modules, and that module's place."""
    width = case.whole(4, 6)
    parts = [nn.Linear(3, width), nn.Tanh(), nn.Linear(width, width), nn.Sigmoid(), nn.Linear(width, 3)]
    for part in parts[::2]:
        part.weight.data, part.bias.data = case.normal(*part.weight.shape), case.normal(*part.bias.shape)
    net, place = nn.Sequential(*parts), case.whole(0, 3)
    return net, net[place], place


def untouched(net: nn.Module, when: str) -> None:
    """Raises AssertionError where a module has a hook, or a method of its own in the place of `forward`."""
    for module in net.modules():
        left = [*module._forward_hooks, *module._forward_pre_hooks, *module._backward_hooks]
        assert not left, f"your hook is still there {when}: remove it in the `finally` of a `try`"
        assert "forward" not in vars(module) and "__call__" not in vars(module), f"the module itself is changed {when}"
    everywhere = nn.modules.module
    assert not everywhere._global_forward_hooks, f"a hook on all modules is still there {when}"


class Failure(RuntimeError):
    """What a run that fails raises in a check."""


def fails_cleanly(answer, net: nn.Module, module: nn.Module, x: torch.Tensor, *more) -> None:
    """Raises AssertionError when an answer swallows the error of a run, or leaves something behind after it."""

    def run(*inputs):
        net(x)
        raise Failure("this run fails on purpose")

    try:
        answer(module, run, *more)
    except Failure:
        untouched(net, "after a run that failed")
    except Exception as error:
        raise AssertionError(f"a run that fails should raise its own error, not {type(error).__name__}: {error}") from error
    else:
        raise AssertionError("the run failed, and nobody was told: let its error through")


def runs_of(net: nn.Module, x: torch.Tensor | None = None, mix: torch.Tensor | None = None):
    """A function that runs the network, and the list of what it was run on."""
    seen = []

    def run(inputs=x):
        seen.append(inputs)
        output = net(inputs)
        return output if mix is None else mix @ output  # tokens look at each other at the end

    return run, seen


def record_output(answer, case: Case) -> None:
    net, module, place = network(case)
    x = case.normal(case.whole(2, 5), 4, 3)
    run, seen = runs_of(net, x)
    found = ask(answer, module, run)
    untouched(net, "after the run")
    assert len(seen) == 1, f"the network should run once, it ran {len(seen)} times"
    upto = [x, *(net[: k + 1](x) for k in range(len(net)))]
    assert not isinstance(found, list), "that is the list in which the hook kept the output; return the output"
    mistakes = [("that is what goes into the module, not what it puts out", upto[place])]
    mistakes += [("that is the output of the whole network", upto[-1])]
    judge(found, upto[place + 1], mistakes, "that is not what this module puts out")
    fails_cleanly(answer, net, module, x)


def running_totals(answer, case: Case) -> None:
    terms = case.normal(case.whole(2, 5), 2 * case.whole(2, 6) + 1, 4)
    sums = terms.cumsum(1)
    zero = torch.zeros_like(terms[:, :1])
    mistakes = [
        ("these are the totals inside the blocks, after attention", sums[:, 1::2]),
        ("these are single terms; the stream is the running total", terms[:, ::2]),
        ("the total before the first block is the embedding, not zero", torch.cat([zero, sums[:, 2::2]], 1)),
        ("the sum runs over the images; it should run over the terms", terms.cumsum(0)[:, ::2]),
        (
            "that is what each block adds; the stream is the total of all so far",
            torch.cat([terms[:, :1], terms[:, 1::2] + terms[:, 2::2]], 1),
        ),
    ]
    found = ask(answer, terms)
    if isinstance(found, torch.Tensor):
        assert found.shape != sums.shape, "one total for each term; keep those before the first block and after each block"
        assert found.shape != sums[:, 2::2].shape, "one total is missing: before the first block, and after each of them"
    judge(found, solutions.running_totals(terms), mistakes)


def mean_ablate(answer, case: Case) -> None:
    net, module, place = network(case)
    x = case.normal(case.whole(3, 6), 4, 3)
    run, seen = runs_of(net, x)
    hidden, rest = net[: place + 1](x), net[place + 1 :]
    found = ask(answer, module, run)
    untouched(net, "after the run")
    assert len(seen) == 1, f"the network should run once, it ran {len(seen)} times"
    mistakes = [
        ("nothing was replaced", rest(hidden)),
        ("that is zero, not the mean", rest(0 * hidden)),
        ("the mean is over the images only; each token has its own", rest(hidden.mean((0, 1)).expand_as(hidden))),
        ("that is the mean over the tokens; it should be over the images", rest(hidden.mean(1, keepdim=True).expand_as(hidden))),
        ("one number for everything; each token and each unit has its own mean", rest(hidden.mean().expand_as(hidden))),
        ("that is the mean of what goes in", net(x.mean(0).expand_as(x))),
        ("return the network's output, not the module's", hidden.mean(0).expand_as(hidden)),
        ("that is the mean of the network's output", rest(hidden).mean(0).expand_as(x)),
    ]
    judge(found, rest(hidden.mean(0).expand_as(hidden)), mistakes)
    fails_cleanly(answer, net, module, x)


def match_by_part(answer, case: Case) -> None:
    parts, toward = case.normal(case.whole(2, 5), case.whole(3, 6), 4), case.normal(1, 4)
    toward = toward + case.normal(len(parts), 4)
    match = torch.einsum("bpe,be->bp", parts, toward)
    lengths = parts.sum(1).norm(dim=-1, keepdim=True)
    mistakes = [
        ("the whole representation has a length: divide by it", match),
        ("each part was divided by its own length; divide all by that of their sum", match / parts.norm(dim=-1)),
        (
            "divide by the length of the sum of the parts, not by the sum of their lengths",
            match / parts.norm(dim=-1).sum(1)[:, None],
        ),
        ("each image has a length of its own, not their mean", match / lengths.mean()),
        ("each image has a length of its own: take the norm along the last axis", match / lengths.norm()),
        ("only the representation is to be of unit length, not `toward`", match / lengths / toward.norm(dim=-1, keepdim=True)),
        ("shares of one whole were not asked for: the parts add up to the match, not to 1", match / match.sum(1, keepdim=True)),
    ]
    judge(ask(answer, parts, toward), match / lengths, mistakes)


def patch_class_token(answer, case: Case) -> None:
    net, module, place = network(case)
    images, tokens = case.whole(2, 4), case.whole(3, 5)
    source, target, mix = case.normal(images, tokens, 3), case.normal(images, tokens, 3), case.normal(tokens, tokens)
    run, seen = runs_of(net, mix=mix)
    found = ask(answer, module, run, source, target)
    untouched(net, "after the runs")
    assert len(seen) == 2, f"the network should run twice, it ran {len(seen)} times"
    rest, hidden = net[place + 1 :], net[: place + 1]
    ours, theirs = hidden(target), hidden(source)
    joined = lambda first, others: mix @ rest(torch.cat([first[:, :1], others[:, 1:]], 1))  # noqa: E731
    mistakes = [
        ("nothing was patched: that is the target's own output", mix @ rest(ours)),
        ("that is the source's own output: replace token 0 alone", mix @ rest(theirs)),
        (
            "the class token is to come from the source, the others from the target; here it is the other way round",
            joined(ours, theirs),
        ),
        ("return the second run's output, not what the module put out", torch.cat([theirs[:, :1], ours[:, 1:]], 1)),
    ]
    judge(found, joined(theirs, ours), mistakes, "only token 0 of the module's output comes from the source")
    fails_cleanly(answer, net, module, target, source, target)
