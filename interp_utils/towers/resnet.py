"""CLIP's ResNets: of these only the attention pool is described, whose heads read positions of the last feature map."""

import torch
from open_clip.modified_resnet import ModifiedResNet
from torch import Tensor, nn

from .base import Tower
from .parts import NotCovered, bias_of, numbers
from .read_outs import attended


def describe(visual: nn.Module) -> Tower | None:
    """The tower, or None where it is of another family."""
    if not isinstance(visual, ModifiedResNet):
        return None
    pool = visual.attnpool
    if pool is None:
        raise NotCovered("its attention pool was taken away")
    size = visual.image_size if isinstance(visual.image_size, int) else visual.image_size[0]

    def tokens(feature_map: Tensor) -> Tensor:
        x = feature_map.flatten(2).mT
        return torch.cat([x.mean(1, keepdim=True), x], 1) + pool.positional_embedding.to(x.dtype)

    def read_out(stream: Tensor):
        (w_q, b_q), (w_k, b_k), (w_v, b_v) = (_by_head(each, pool.num_heads) for each in (pool.q_proj, pool.k_proj, pool.v_proj))
        w_o, b_o = numbers(pool.c_proj.weight), bias_of(pool.c_proj)
        same = torch.eye(len(w_o)).to(w_o)
        return attended(
            stream,
            None,
            lambda x: torch.einsum("bD,pdD->bpd", x[:, 0], w_q) + b_q,  # the mean of all positions asks
            lambda x: torch.einsum("bnD,pdD->bpnd", x, w_k) + b_k[:, None],
            (w_v, b_v),
            (w_o.unflatten(1, w_v.shape[:2]), b_o),
            None,
            (same, torch.zeros_like(b_o)),
        )

    return Tower(
        family="ResNet, attention pooling",
        blocks=(),
        stream=(pool, tokens),
        read_out=read_out,
        n_heads=0,
        grid=(size // 32, size // 32),
        image_size=(size, size),
        d_embed=pool.c_proj.out_features,
        n_prefix=1,
    )


def _by_head(linear: nn.Linear, heads: int) -> tuple[Tensor, Tensor]:
    return numbers(linear.weight).unflatten(0, (heads, -1)), bias_of(linear).unflatten(0, (heads, -1))
