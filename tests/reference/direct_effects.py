"""Direct effects as section 2.2 of the thesis writes them: every head's output at every token, then summed as one likes."""

import torch
from torch import Tensor

from interp_utils import Clip

from .tower import Step, final_mean_and_std, gain, steps


@torch.no_grad()
def effects(clip: Clip, pixels: Tensor, ln: str = "split") -> tuple[Tensor, Tensor]:
    """Of every token through every head [B, L, H, N, E] (eq. 2.5), and of embedding and MLPs [B, L+1, E]."""
    return _in_joint_space(clip, pixels, ln, _of_tokens)


@torch.no_grad()
def head_effects(clip: Clip, pixels: Tensor, ln: str = "split") -> tuple[Tensor, Tensor]:
    """Of every head [B, L, H, E] (eq. 2.4), summed over tokens before anything is projected, and of the others [B, L+1, E]."""
    return _in_joint_space(clip, pixels, ln, _of_heads)


def head_token_maps(clip: Clip, pixels: Tensor, text: Tensor, ln: str = "split") -> Tensor:
    """What each token says of each text through each head, [B, L, H, N, T] (section 2.5)."""
    return effects(clip, pixels, ln)[0] @ text.T


def _of_tokens(step: Step, bias: Tensor) -> Tensor:
    """What the class token gets from each token through each head, [B, H, N, D]."""
    weighed = step.pattern[:, :, 0, :, None] * step.value
    return torch.einsum("bhnd,Dhd->bhnD", weighed, step.w_o) + bias / step.pattern[0, :, 0].numel()


def _of_heads(step: Step, bias: Tensor) -> Tensor:
    """What each head writes to the class token, [B, H, D]; like the published hook, for all tokens before one is taken."""
    return torch.einsum("bhnd,Dhd->bnhD", step.mixed, step.w_o)[:, 0] + bias / len(step.pattern[0])


def _in_joint_space(clip: Clip, pixels: Tensor, ln: str, written) -> tuple[Tensor, Tensor]:
    heads, others = [], []
    for step in steps(clip, pixels):
        if not others:
            others.append(step.stream[:, 0])
        heads.append(written(step, gain(step.block.ls_1) * step.block.attn.out_proj.bias))
        others.append(step.mlp[:, 0])
    heads, others, norm = torch.stack(heads, 1), torch.stack(others, 1), clip.visual.ln_post
    mean, std = final_mean_and_std(clip, step.output[:, 0])
    terms = 2 * clip.n_layers + 1  # of the stream; each gets an equal share of its mean and of the bias with ln="split"

    def joint(term: Tensor, share: float) -> Tensor:
        m, s = (part.reshape(-1, *[1] * (term.ndim - 1)) for part in (mean, std))
        if ln == "split":
            return (norm.weight * (term - m * share) / s + norm.bias * share) @ clip.visual.proj
        return norm.weight * (term - term.mean(-1, keepdim=True)) / s @ clip.visual.proj

    effects = joint(others, 1 / terms)
    if ln == "centered":
        effects[:, 0] += norm.bias @ clip.visual.proj
    return joint(heads, 1 / (terms * heads[0, 0, ..., 0].numel())), effects
