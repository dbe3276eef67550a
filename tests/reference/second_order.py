"""Second-order effects as eqs. 3.3 and B.5 of the thesis write them: a neuron at every token, pushed through every later head."""

from collections.abc import Sequence

import torch
from torch import Tensor

from interp_utils import Clip

from .tower import Step, final_mean_and_std, gain, in_projection, steps

CHUNK = 64  # neurons whose outputs at all tokens exist at the same time


@torch.no_grad()
def effects(clip: Clip, pixels: Tensor, layer: int, ln: str, neurons: Sequence[int]) -> Tensor:
    """Effects [B, n, E] of some neurons of a layer. With ln="split" all biases and means are shared equally, as published."""
    trace = list(steps(clip, pixels))
    chosen = torch.as_tensor(neurons)
    return torch.cat([_through(clip, trace, layer, ln, part) for part in chosen.split(CHUNK)], 1)


def norms(clip: Clip, pixels: Tensor, layer: int, ln: str = "centered") -> Tensor:
    """Lengths [B, M] of all neurons' effects."""
    return effects(clip, pixels, layer, ln, range(clip.d_mlp)).norm(dim=-1)


@torch.no_grad()
def rank_one(clip: Clip, pixels: Tensor, layer: int, top: int, ln: str = "centered") -> tuple[Tensor, Tensor, Tensor]:
    """Each neuron's mean effect [M, E], direction [M, E] and threshold [M] (section 3.3), from the effects on all images."""
    everyone = range(clip.d_mlp)
    found = torch.cat([effects(clip, image[None], layer, ln, everyone) for image in pixels])  # [K, M, E]
    mean = found.mean(0)
    lengths, images = (found - mean).norm(dim=-1).topk(top, dim=0)
    directions = []
    for neuron in everyone:
        rows = found[images[:, neuron], neuron] - mean[neuron]
        first = torch.linalg.svd(rows, full_matrices=False)[2][0]
        directions.append(first if ((rows @ first) > 0).sum() * 2 > top else -first)
    return mean, torch.stack(directions), lengths[-1]


def _through(clip: Clip, trace: list[Step], layer: int, ln: str, chosen: Tensor) -> Tensor:
    at, n_terms = trace[layer], 1 + 2 * clip.n_layers
    outputs = at.neurons[..., chosen, None] * at.w_out.T[chosen]  # [B, N, n, D]
    if ln == "split":
        outputs = outputs + gain(at.block.ls_2) * at.block.mlp.c_proj.bias / clip.d_mlp
    norm, (mean, std) = clip.visual.ln_post, final_mean_and_std(clip, trace[-1].output[:, 0])
    mean, std, found = mean[:, None, None], std[:, None, None], 0
    for after, step in enumerate(trace[layer + 1 :], layer + 1):
        (_, _, w_v), (_, _, b_v) = in_projection(step.block, clip.n_heads)
        ln_1, stream, terms = step.block.ln_1, step.stream, (1 + 2 * after) * clip.d_mlp
        s = (stream.var(-1, correction=0) + ln_1.eps).sqrt()[..., None, None]
        if ln == "split":
            normed = ln_1.weight * (outputs - stream.mean(-1)[..., None, None] / terms) / s + ln_1.bias / terms
        else:
            normed = ln_1.weight * (outputs - outputs.mean(-1, keepdim=True)) / s
        for head in range(clip.n_heads):
            value = normed @ w_v[head].T + (b_v[head] / terms if ln == "split" else 0)
            written = torch.einsum("bi,bind->bnd", step.pattern[:, head, 0], value) @ step.w_o[:, head].T
            if ln == "split":
                share = 1 / (terms * clip.n_heads)
                written = written + gain(step.block.ls_1) * step.block.attn.out_proj.bias * share
                written = norm.weight * (written - mean * share / n_terms) / std + norm.bias * share / n_terms
            else:
                written = norm.weight * (written - written.mean(-1, keepdim=True)) / std
            found = found + written @ clip.visual.proj
    return found
