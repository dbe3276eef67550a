"""Heat maps of other methods as their papers write them: the whole model in one graph, whole matrices, all layers kept.

All give [B, rows, columns]; pixels [B, 3, H, W], text [B, E]. What is explained is the cosine with the text, of unit length.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from interp_utils import Clip

from .tower import Step, in_projection, steps


@torch.no_grad()
def rollout(clip: Clip, pixels: Tensor, text: Tensor) -> Tensor:
    """Abnar and Zuidema 2020: attention and identity, averaged, multiplied through all layers but the first."""
    joint = None
    for step in list(steps(clip, pixels))[1:]:
        here = step.pattern.mean(1) + torch.eye(step.pattern.shape[-1]).to(step.pattern)
        here = here / here.sum(-1, keepdim=True)
        joint = here if joint is None else here @ joint
    return _on_grid(clip, joint[:, 0])


def grad_cam(clip: Clip, pixels: Tensor, text: Tensor) -> Tensor:
    """Selvaraju et al. 2017 on the last layer's attention: each head weighted by its mean gradient over the patches."""
    trace, score = _graph(clip, pixels, text)
    (gradient,) = torch.autograd.grad(score, trace[-1].pattern)
    gradient = gradient[:, :, 0, 1:].mean(-1, keepdim=True)
    return _on_grid(clip, (gradient * trace[-1].pattern[:, :, 0]).mean(1).clamp(min=0).detach())


def chefer(clip: Clip, pixels: Tensor, text: Tensor) -> Tensor:
    """Chefer et al., ICCV 2021: R <- R + mean over heads of (gradient x attention)+, times R, from the first layer on."""
    trace, score = _graph(clip, pixels, text)
    gradients = torch.autograd.grad(score, [step.pattern for step in trace])
    relevance = torch.eye(trace[0].pattern.shape[-1]).to(pixels).expand(len(pixels), -1, -1)
    for step, gradient in zip(trace, gradients):
        relevance = relevance + (gradient * step.pattern.detach()).clamp(min=0).mean(1) @ relevance
    return _on_grid(clip, relevance[:, 0])


@torch.no_grad()
def lrp(clip: Clip, pixels: Tensor, text: Tensor) -> Tensor:
    """Layer-wise relevance (Binder et al. 2016) with the rules for attention of Chefer et al., CVPR 2021, to the pixels."""
    trace, visual = list(steps(clip, pixels)), clip.visual
    relevance = torch.zeros_like(trace[-1].output)
    wanted = (text @ visual.proj.T)[:, None]  # projection and text as one layer
    for image, (normed, weight) in enumerate(zip(visual.ln_post(trace[-1].output[:, 0]), wanted)):
        relevance[image, 0] = _linear(normed, weight, torch.ones(1).to(normed))
    for step in reversed(trace):
        relevance = _block(clip, step, relevance)
    kernel = visual.conv1.kernel_size
    patches = F.unfold(pixels[..., : clip.grid[0] * kernel[0], : clip.grid[1] * kernel[1]], kernel, stride=kernel).mT
    tokens = torch.cat([visual.class_embedding.expand(len(pixels), 1, -1), visual.conv1(pixels).flatten(2).mT], 1)
    tokens, _ = _sum(tokens, visual.positional_embedding.expand_as(tokens), relevance)
    return _linear(patches, visual.conv1.weight.flatten(1), tokens[:, 1:]).sum(-1).unflatten(1, clip.grid)


def _block(clip: Clip, step: Step, relevance: Tensor) -> Tensor:
    skipped, mlp = _sum(step.stream + step.written, step.mlp, relevance)
    entered = step.block.ln_2(step.stream + step.written)
    mlp = _linear(entered, step.block.mlp.c_fc.weight, _linear(step.neurons, step.w_out, mlp))
    skipped, written = _sum(step.stream, step.written, skipped + mlp)
    mixed = _linear(step.mixed.transpose(1, 2).flatten(2), step.w_o.flatten(1), written)
    pattern, value = _product(step.pattern, step.value, mixed.unflatten(2, (clip.n_heads, -1)).transpose(1, 2))
    query, key = _product(step.query, step.key.mT, pattern)
    for weight, part in zip(in_projection(step.block, clip.n_heads)[0], (query, key.mT, value)):
        skipped = skipped + _linear(step.normed, weight.flatten(0, 1), part.transpose(1, 2).flatten(2))
    return skipped


@torch.enable_grad()
def _passed_on(run, inputs: list[Tensor], relevance: Tensor) -> list[Tensor]:
    """The general rule: each input times the gradient by it of the output, weighted with relevance over output."""
    inputs = [x.detach().requires_grad_() for x in inputs]
    output = run(*inputs)
    share = torch.where(output.abs() < 1e-9, 0, relevance / output).detach()
    return [x.detach() * slope for x, slope in zip(inputs, torch.autograd.grad(output, inputs, share))]


def _linear(x: Tensor, weight: Tensor, relevance: Tensor) -> Tensor:
    """Through x @ weight.T, by positive contributions alone, biases left out."""

    def positive(up, down):
        return up @ weight.clamp(min=0).T + down @ weight.clamp(max=0).T

    return sum(_passed_on(positive, [x.clamp(min=0), x.clamp(max=0)], relevance))


def _product(left: Tensor, right: Tensor, relevance: Tensor) -> list[Tensor]:
    return [part / 2 for part in _passed_on(torch.matmul, [left, right], relevance)]


def _sum(first: Tensor, second: Tensor, relevance: Tensor) -> list[Tensor]:
    """Through a sum, each term's part scaled to its share of the sizes of both, so that nothing blows up."""
    parts = _passed_on(torch.add, [first, second], relevance)
    totals = [part.sum((1, 2), keepdim=True) for part in parts]
    whole = relevance.sum((1, 2), keepdim=True) / sum(total.abs() for total in totals)
    return [part * total.sign() * whole for part, total in zip(parts, totals)]


@torch.enable_grad()
def _graph(clip: Clip, pixels: Tensor, text: Tensor) -> tuple[list[Step], Tensor]:
    """All blocks in one graph that reaches the pixels, and the score."""
    trace = list(steps(clip, pixels.detach().requires_grad_()))
    found = clip.visual.ln_post(trace[-1].output[:, 0]) @ clip.visual.proj
    return trace, (F.normalize(found, dim=-1) * text).sum()


def _on_grid(clip: Clip, tokens: Tensor) -> Tensor:
    return tokens[:, 1:].unflatten(1, clip.grid)
