"""timm's ViTs in OpenCLIP: SigLIP, MobileCLIP-B and L, EVA01, EVA02, Perception Encoder, and ViTamin above its stem."""

from functools import partial

import torch
from open_clip.timm_model import TimmModel
from timm.layers import Attention as PlainAttention
from timm.layers import AttentionPoolLatent, GluMlp, Mlp, SwiGLU, apply_rot_embed_cat
from timm.models.eva import Eva, EvaAttention, EvaBlock, EvaBlockPostNorm
from timm.models.vision_transformer import Block as PlainBlock
from timm.models.vision_transformer import VisionTransformer
from timm.models.vitamin import GeGluMlp
from torch import Tensor, nn
from torch.func import functional_call

from .base import Block, FinalNorm, Tower
from .compiled import original
from .parts import Attention, LastLinear, Norm, NotCovered, bias_of, checked_norm, numbers, unchanged
from .read_outs import attended, pooled

try:
    from timm.layers import AttentionRope
except ImportError:  # older timm, which has no tower that needs it
    AttentionRope = EvaAttention

_LAST = {Mlp: "fc2", SwiGLU: "fc2", GluMlp: "fc2", GeGluMlp: "w2"}  # the last linear layer of each kind of MLP


def describe(visual: nn.Module) -> Tower | None:
    """The tower, or None where it is of another family. Raises NotCovered, with the reason, for timm's other architectures."""
    if not isinstance(visual, TimmModel | VisionTransformer | Eva):
        return None
    trunk = visual.trunk if isinstance(visual, TimmModel) else visual
    if type(trunk) not in (VisionTransformer, Eva):
        raise NotCovered(f"its image tower is timm's {type(trunk).__name__}, no ViT of one residual stream with plain attention")
    if trunk.training:
        raise NotCovered("it is in training mode; call model.eval() first")
    channels = next((weight.shape[1] for weight in trunk.parameters() if weight.ndim == 4), 3)
    if channels != 3:
        raise NotCovered(f"its images have {channels} channels, and CLIP's have 3")
    eva = type(trunk) is Eva
    rotary = getattr(trunk, "rope", None) if eva else None
    if rotary is not None and (getattr(trunk, "rope_mixed", False) or type(rotary).__name__ != "RotaryEmbeddingCat"):
        raise NotCovered(f"its positions are rotated by a {type(rotary).__name__}")
    pool = trunk.attn_pool
    if pool is None and trunk.global_pool not in ("token", "avg"):
        raise NotCovered(f"it pools by {trunk.global_pool!r}")
    if pool is not None:
        plain = type(pool) is AttentionPoolLatent and pool.pos_embed is None and pool.latent_len == 1 and pool.pool == "token"
        if not plain:
            raise NotCovered(f"it pools by a {type(pool).__name__} with positions or several queries")
    for norm, where in ((trunk.norm, "last norm"), (trunk.fc_norm, "norm after pooling")):
        checked_norm(norm, where)
    head = visual.head if isinstance(visual, TimmModel) else nn.Identity()
    others = [module for name, module in head.named_children() if name not in ("drop", "proj")]
    if others or not isinstance(trunk.head, nn.Linear | nn.Identity):
        raise NotCovered("an MLP or another pool follows its read-out")
    blocks = tuple(_block(original(block), rotary) for block in trunk.blocks)
    how = "attention pooling" if pool is not None else {"token": "class token", "avg": "mean of patches"}[trunk.global_pool]
    ratio = trunk.patch_embed.feat_ratio(as_scalar=False)  # its own grid is that of the size it was made for
    size = tuple(visual.image_size if isinstance(visual, TimmModel) else trunk.patch_embed.img_size)
    linears = [each for each in (trunk.head, getattr(head, "proj", None)) if isinstance(each, nn.Linear)]
    norms = [norm for norm in (trunk.norm, trunk.fc_norm) if isinstance(norm, nn.LayerNorm)]

    def final() -> FinalNorm:
        return FinalNorm(numbers(norms[0].weight), numbers(norms[0].bias), norms[0].eps, *_projection(trunk, linears))

    return Tower(
        family=f"timm's {'EVA' if eva else 'ViT'}, {how}",
        blocks=blocks,
        stream=(blocks[0].whole, unchanged),
        read_out=partial(_read_out, trunk, linears),
        n_heads=trunk.blocks[0].attn.num_heads,
        grid=tuple(side // step for side, step in zip(size, ratio)),
        image_size=size,
        d_embed=linears[-1].out_features if linears else trunk.embed_dim,
        n_prefix=trunk.num_prefix_tokens,
        final=final if how == "class token" and len(norms) == 1 else None,
    )


def _block(block: nn.Module, rotary: nn.Module | None) -> Block:
    if type(block) not in (PlainBlock, EvaBlock, EvaBlockPostNorm):
        raise NotCovered(f"its blocks are custom ({type(block).__name__})")
    attn, post = block.attn, type(block) is EvaBlockPostNorm
    if type(attn) not in (PlainAttention, EvaAttention, AttentionRope) or getattr(attn, "gate", None) is not None:
        raise NotCovered(f"its attention is custom or gated ({type(attn).__name__})")
    if getattr(attn, "num_kv_heads", attn.num_heads) != attn.num_heads:
        raise NotCovered("several of its heads share keys and values")
    if type(block.mlp) not in _LAST:
        raise NotCovered(f"its MLPs are custom ({type(block.mlp).__name__})")
    last = getattr(block.mlp, _LAST[type(block.mlp)])
    for part, where in ((attn.proj, "last layer of its attention"), (last, "last layer of its MLP")):
        if not isinstance(part, nn.Linear):
            raise NotCovered(f"the {where} is a {type(part).__name__}, no plain linear layer; merge an adapter, or do not quantise")
    norms = {"norm of the attention": block.norm1, "norm of the MLP": block.norm2, "norm in the attention": attn.norm}
    for where, norm in norms.items():
        checked_norm(norm, where)

    def attention() -> Attention:
        (w_q, b_q), (w_k, b_k), (w_v, b_v) = _projections(attn)
        w, b = _scaled(numbers(attn.proj.weight), bias_of(attn.proj), block, 1)
        plain = rotary is None and isinstance(attn.q_norm, nn.Identity) and isinstance(attn.k_norm, nn.Identity)
        turns = [unchanged if plain else partial(_turn, attn, norm, rotary) for norm in (attn.q_norm, attn.k_norm)]
        after = Norm.of(block.norm1) if post else None
        return Attention(w_q, b_q, w_k, b_k, w_v, b_v, w.unflatten(1, w_v.shape[:2]), b, *turns, Norm.of(attn.norm), after)

    def last_linear() -> LastLinear:
        w, b = _scaled(numbers(last.weight), bias_of(last), block, 2)
        return LastLinear(w.T, b, Norm.of(block.norm2) if post else None)

    def run(stream: Tensor) -> Tensor:
        return block(stream) if rotary is None else block(stream, rope=rotary.get_embed())

    def feed(middle: Tensor) -> Tensor:
        if post:
            return block.norm2(block.mlp(middle))
        written = block.mlp(block.norm2(middle))
        gamma = _gamma(block, 2)
        return written if gamma is None else gamma * written

    plain = type(block.mlp) is Mlp and isinstance(block.mlp.norm, nn.Identity) and isinstance(block.mlp.fc1, nn.Linear)
    return Block(
        whole=block,
        reads=None if post else block.norm1,
        writes=block.drop_path1,
        middle=block.mlp if post else block.norm2,
        mlp=block.drop_path2,
        last=last,
        attention=attention,
        last_linear=last_linear,
        norm=lambda: None if post else Norm.of(block.norm1),
        run=run,
        feed=feed,
        first=(block.norm2, block.mlp.fc1, block.mlp.act) if plain and not post else None,
    )


def _projections(attn: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """Weights [H, d, D] and biases [H, d] of queries, keys and values; EVA's keys have no bias."""
    if attn.qkv is None:
        parts = [(numbers(linear.weight), bias_of(linear)) for linear in (attn.q_proj, attn.k_proj, attn.v_proj)]
    else:
        bias = bias_of(attn.qkv)
        if getattr(attn, "q_bias", None) is not None:
            bias = torch.cat([numbers(attn.q_bias), numbers(attn.k_bias), numbers(attn.v_bias)])
        parts = list(zip(numbers(attn.qkv.weight).chunk(3), bias.chunk(3)))
    return [(w.unflatten(0, (attn.num_heads, -1)), b.unflatten(0, (attn.num_heads, -1))) for w, b in parts]


def _turn(attn: nn.Module, norm: nn.Module, rotary: nn.Module | None, x: Tensor) -> Tensor:
    """Norm and rotate queries or keys [B, H, N, d] as their attention does; tokens that are no patches are not rotated."""
    x = norm(x.to(norm.weight.dtype)).to(x) if isinstance(norm, nn.LayerNorm) else norm(x)
    if rotary is None:
        return x
    half, first = {"half": True} if getattr(attn, "rotate_half", False) else {}, attn.num_prefix_tokens
    return torch.cat([x[:, :, :first], apply_rot_embed_cat(x[:, :, first:], rotary.get_embed().to(x), **half)], 2)


def _scaled(w: Tensor, b: Tensor, block: nn.Module, which: int) -> tuple[Tensor, Tensor]:
    gamma = _gamma(block, which)
    return (w, b) if gamma is None else (numbers(gamma)[:, None] * w, numbers(gamma) * b)


def _gamma(block: nn.Module, which: int) -> Tensor | None:
    """The layer scale of a block's attention, 1, or MLP, 2, if there is one."""
    gamma = getattr(block, f"gamma_{which}", None)
    return getattr(getattr(block, f"ls{which}", None), "gamma", None) if gamma is None else gamma


def _projection(trunk: nn.Module, linears: list[nn.Linear]) -> tuple[Tensor, Tensor]:
    """What comes after pooling and its norm, as one matrix [D, E] and bias [E]."""
    matrix = torch.eye(trunk.embed_dim).to(numbers(trunk.blocks[0].attn.proj.weight))
    bias = torch.zeros_like(matrix[0])
    for linear in linears:
        w = numbers(linear.weight).T
        matrix, bias = matrix @ w, bias @ w + bias_of(linear)
    return matrix, bias


def _read_out(trunk: nn.Module, linears: list[nn.Linear], stream: Tensor):
    before, after, (matrix, bias) = Norm.of(trunk.norm), Norm.of(trunk.fc_norm), _projection(trunk, linears)
    eva = type(trunk) is Eva
    whole = eva or trunk.pool_include_prefix  # whether tokens that are no patches are pooled as well
    if trunk.attn_pool is not None:
        first = 0 if whole else trunk.num_prefix_tokens
        return _attention_pooling(stream, trunk.attn_pool, before, after, (matrix, bias), first)
    share = torch.zeros(stream.shape[1], device=stream.device)
    if trunk.global_pool == "token":
        share[0] = 1
    else:
        first = 0 if whole and not eva else trunk.num_prefix_tokens
        share[first:] = 1 / (len(share) - first)
    return pooled(stream, share, before, after, matrix, bias)


class _Added(nn.Module):
    """What the MLP of an attention pool adds to the pooled vector."""

    def __init__(self, pool: nn.Module):
        super().__init__()
        self.pool = pool

    def forward(self, vector: Tensor) -> Tensor:
        return self.pool.mlp(self.pool.norm(vector))


def _attention_pooling(stream, pool: AttentionPoolLatent, before: Norm | None, after: Norm | None, head, first: int):
    """One learned query; an MLP adds to the pooled vector, which is read out."""
    heads = (pool.num_heads, -1)
    w_k, w_v = (each.unflatten(0, heads) for each in numbers(pool.kv.weight).chunk(2))
    b_k, b_v = (each.unflatten(0, heads) for each in bias_of(pool.kv).chunk(2))
    latent = numbers(pool.latent[:, 0])
    asked = latent @ numbers(pool.q.weight).T + bias_of(pool.q) if isinstance(pool.q, nn.Linear) else latent

    def normed(norm: nn.Module, x: Tensor) -> Tensor:
        own = Norm.of(norm)
        return x if own is None else own(x)

    def added(vector: Tensor) -> Tensor:
        detached = {name: weight.detach() for name, weight in pool.named_parameters()}
        inside = vector.to(next(iter(detached.values())).dtype)
        return functional_call(_Added(pool), {f"pool.{name}": weight for name, weight in detached.items()}, inside).to(vector)

    return attended(
        stream,
        before,
        lambda _: normed(pool.q_norm, asked.unflatten(1, heads)),
        lambda x: normed(pool.k_norm, torch.einsum("bnD,pdD->bpnd", x, w_k) + b_k[:, None]),
        (w_v, b_v),
        (numbers(pool.proj.weight).unflatten(1, w_v.shape[:2]), bias_of(pool.proj)),
        after,
        head,
        added if pool.mlp is not None else None,
        first,
    )
