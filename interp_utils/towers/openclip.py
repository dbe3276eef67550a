"""OpenCLIP's own VisionTransformer: class token, mean of patches (CLIPA), and attention pooling (CoCa)."""

import torch
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from .base import Block, Embedding, FinalNorm, Tower
from .compiled import original
from .parts import Attention, LastLinear, Norm, NotCovered, bias_of, checked_norm, numbers, unchanged
from .read_outs import attended, pooled


def describe(visual: nn.Module) -> Tower | None:
    """The tower, or None where it is of another family. Raises NotCovered for parts that do more than this says."""
    if not isinstance(visual, VisionTransformer):
        return None
    if visual.training and getattr(visual.patch_dropout, "prob", 0) > 0:
        raise NotCovered("it drops patches at random in training mode; call model.eval() first")
    if visual.proj is None:
        raise NotCovered("it has no projection into the joint space")
    pooler = visual.attn_pool
    if pooler is not None and visual.attn_pool_contrastive is not None:
        raise NotCovered(f"it pools twice ({visual.attn_pool_type}), which no released model does")
    if visual.pool_type not in ("tok", "avg") or (pooler is not None and visual.pool_type != "tok"):
        raise NotCovered(f"it pools by {visual.pool_type!r}{' over several queries' if pooler is not None else ''}")
    checked_norm(visual.ln_post, "last norm")
    blocks = tuple(_block(original(block)) for block in visual.transformer.resblocks)
    kind = "attention pooling" if pooler is not None else {"tok": "class token", "avg": "mean of patches"}[visual.pool_type]

    def read_out(stream: Tensor):
        proj, post = numbers(visual.proj), Norm.of(visual.ln_post)
        none = proj.new_zeros(proj.shape[1])
        if visual.attn_pool is not None:
            return _attention_pooling(stream, visual.attn_pool, post, (proj, none))
        share = torch.zeros(stream.shape[1], device=stream.device)
        if visual.pool_type == "tok":
            share[0] = 1
        else:
            share[1:] = 1 / (len(share) - 1)
        before, after = (None, post) if visual.final_ln_after_pool else (post, None)
        return pooled(stream, share, before, after, proj, none)

    def final() -> FinalNorm:
        norm = visual.ln_post
        proj = numbers(visual.proj)
        return FinalNorm(numbers(norm.weight), numbers(norm.bias), norm.eps, proj, torch.zeros_like(proj[0]))

    def embedding() -> Embedding:
        return Embedding(visual.conv1, numbers(visual.class_embedding), numbers(visual.positional_embedding), visual.ln_pre)

    return Tower(
        family=f"OpenCLIP's ViT, {kind}",
        blocks=blocks,
        stream=(blocks[0].whole, unchanged),
        read_out=read_out,
        n_heads=visual.transformer.resblocks[0].attn.num_heads,
        grid=tuple(visual.grid_size),
        image_size=tuple(visual.image_size),
        d_embed=visual.proj.shape[1],
        n_prefix=1,
        final=final if kind == "class token" and isinstance(visual.ln_post, nn.LayerNorm) else None,
        embedding=embedding,
    )


def in_projections(attn: nn.MultiheadAttention) -> list[tuple[Tensor, Tensor]]:
    """Weights [H, d, D] and biases [H, d] of queries, keys and values."""
    separate = (attn.q_proj_weight, attn.k_proj_weight, attn.v_proj_weight)
    weights = attn.in_proj_weight.chunk(3) if attn.in_proj_weight is not None else separate
    biases = attn.in_proj_bias.chunk(3) if attn.in_proj_bias is not None else [torch.zeros_like(w[:, 0]) for w in weights]
    heads = (attn.num_heads, -1)
    return [(numbers(w).unflatten(0, heads), numbers(b).unflatten(0, heads)) for w, b in zip(weights, biases)]


def _block(block: nn.Module) -> Block:
    attn = block.attn
    if not isinstance(attn, nn.MultiheadAttention) or hasattr(block, "ln_attn") or attn.bias_k is not None or attn.add_zero_attn:
        raise NotCovered(f"its attention is custom ({type(attn).__name__})")
    if not attn.batch_first:
        raise NotCovered("its attention is not batch-first; update open_clip_torch to 3.3 or later")
    checked_norm(block.ln_1, "norm before the attention")
    checked_norm(block.ln_2, "norm before the MLP")
    last = getattr(block.mlp, "c_proj", None)
    for part, where in ((attn.out_proj, "last layer of its attention"), (last, "last layer of its MLP")):
        if not isinstance(part, nn.Linear):
            raise NotCovered(f"the {where} is a {type(part).__name__}, no plain linear layer; merge an adapter, or do not quantise")

    def attention() -> Attention:
        (w_q, b_q), (w_k, b_k), (w_v, b_v) = in_projections(attn)
        w, b = _scaled(numbers(attn.out_proj.weight), bias_of(attn.out_proj), block.ls_1)
        return Attention(w_q, b_q, w_k, b_k, w_v, b_v, w.unflatten(1, w_v.shape[:2]), b)

    def last_linear() -> LastLinear:
        w, b = _scaled(numbers(block.mlp.c_proj.weight), bias_of(block.mlp.c_proj), block.ls_2)
        return LastLinear(w.T, b)

    def feed(middle: Tensor) -> Tensor:
        return block.ls_2(block.mlp(block.ln_2(middle)))

    plain = isinstance(block.mlp, nn.Sequential) and list(dict(block.mlp.named_children())) == ["c_fc", "gelu", "c_proj"]
    return Block(
        whole=block,
        reads=block.ln_1,
        writes=block.ls_1,
        middle=block.ln_2,
        mlp=block.ls_2,
        last=block.mlp.c_proj,
        attention=attention,
        last_linear=last_linear,
        norm=lambda: Norm.of(block.ln_1),
        run=block,
        feed=feed,
        first=(block.ln_2, block.mlp.c_fc, block.mlp.gelu) if plain else None,
    )


def _scaled(w: Tensor, b: Tensor, scale: nn.Module) -> tuple[Tensor, Tensor]:
    if not hasattr(scale, "gamma"):
        return w, b
    gamma = numbers(scale.gamma)
    return gamma[:, None] * w, gamma * b


def _attention_pooling(stream: Tensor, pooler: nn.Module, post: Norm | None, head: tuple[Tensor, Tensor]):
    """CoCa's: tokens are normed, one of many learned queries is read out, its vector is normed and projected."""
    attn = pooler.attn
    (w_q, b_q), (w_k, b_k), (w_v, b_v) = in_projections(attn)
    asked = Norm.of(pooler.ln_q)(numbers(pooler.query[:1]))
    out = numbers(attn.out_proj.weight).unflatten(1, w_v.shape[:2]), bias_of(attn.out_proj)
    return attended(
        stream,
        Norm.of(pooler.ln_k),
        lambda _: torch.einsum("nF,pdF->npd", asked, w_q) + b_q,
        lambda x: torch.einsum("bnD,pdD->bpnd", x, w_k) + b_k[:, None],
        (w_v, b_v),
        out,
        post,
        head,
    )
