"""An OpenCLIP vision transformer with a class token, block by block in plain tensors: what the other references start from."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from interp_utils import Clip


@dataclass
class Step:
    """What one block does to all tokens; layer scales are in `w_o` and `w_out`."""

    block: torch.nn.Module
    stream: Tensor  # [B, N, D], as it enters
    normed: Tensor  # [B, N, D], what the attention reads
    query: Tensor  # [B, H, N, d]
    key: Tensor  # [B, H, N, d]
    value: Tensor  # [B, H, N, d]
    pattern: Tensor  # [B, H, N, N]
    mixed: Tensor  # [B, H, N, d], values averaged with the pattern
    w_o: Tensor  # [D, H, d]
    written: Tensor  # [B, N, D], by the attention
    neurons: Tensor  # [B, N, M], after the activation function
    w_out: Tensor  # [D, M]
    mlp: Tensor  # [B, N, D], what the MLP writes

    @property
    def output(self) -> Tensor:
        """The stream as it leaves the block."""
        return self.stream + self.written + self.mlp


def gain(scale: torch.nn.Module) -> Tensor | float:
    """A block's layer scale [D], or 1."""
    return getattr(scale, "gamma", 1.0)


def in_projection(block: torch.nn.Module, n_heads: int) -> tuple[Tensor, Tensor]:
    """Weights [3, H, d, D] and biases [3, H, d] of queries, keys and values."""
    return tuple(part.unflatten(0, (3, n_heads, -1)) for part in (block.attn.in_proj_weight, block.attn.in_proj_bias))


def steps(clip: Clip, pixels: Tensor) -> Iterator[Step]:
    """Run the tower; every block's `Step` as it comes. Gradients flow if they are on."""
    x = clip.visual._embeds(pixels)
    for block in clip.visual.transformer.resblocks:
        normed, attn, scale = block.ln_1(x), block.attn, gain(block.ls_1)
        together = (normed @ attn.in_proj_weight.T + attn.in_proj_bias).unflatten(-1, (3, clip.n_heads, clip.d_head))
        query, key, value = together.permute(2, 0, 3, 1, 4)
        pattern = (query @ key.mT * clip.d_head**-0.5).softmax(-1)
        mixed = pattern @ value
        written = scale * (mixed.transpose(1, 2).flatten(2) @ attn.out_proj.weight.T + attn.out_proj.bias)
        neurons = block.mlp.gelu(block.mlp.c_fc(block.ln_2(x + written)))
        w_o, w_out = (torch.as_tensor(scale).reshape(-1, 1) * attn.out_proj.weight), block.mlp.c_proj.weight
        step = Step(
            block, x, normed, query, key, value, pattern, mixed, w_o.unflatten(1, (clip.n_heads, -1)), written, neurons,
            torch.as_tensor(gain(block.ls_2)).reshape(-1, 1) * w_out, gain(block.ls_2) * block.mlp.c_proj(neurons),
        )  # fmt: skip
        yield step
        x = step.output


def final_mean_and_std(clip: Clip, final: Tensor) -> tuple[Tensor, Tensor]:
    """Of the class token's last stream [B, D], as the last layer norm takes them: [B] each."""
    return final.mean(1), (final.var(1, correction=0) + clip.visual.ln_post.eps).sqrt()
