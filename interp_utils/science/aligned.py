"""Beyond CLIP: any timm ViT as a `Clip`, so that all that chapters 2 and 3 compute serves it, aligned to a text space by ridge.

The weights are copied into an OpenCLIP image tower, which has the same parts under other names. A linear map, fitted by ridge
regression from the ViT's features to CLIP's image representations of the same images, then stands where CLIP has its
projection: each component of the ViT writes into the joint space of images and texts (after Balasubramanian et al. 2024,
"Decomposing and interpreting image representations via text in ViTs beyond CLIP").
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from open_clip.transformer import VisionTransformer as Tower
from sklearn.linear_model import RidgeCV
from timm.layers import Attention, Mlp, PatchEmbed
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn
from torchmetrics.regression import R2Score
from torchvision.transforms import Normalize

from ..hooks import compute_dtype, final_norm
from ..models import Clip
from ..moments import Rows
from ..stream import feed

PENALTIES = np.logspace(-3, 6, 19)


def from_timm(
    vit: VisionTransformer,
    preprocess=None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    name: str = "timm ViT",
) -> Clip:
    """A timm ViT as a `Clip` without texts: its representation is the ViT's own class-token output, [B, D].

    The weights are copied; the ViT stays as it is. preprocess: what the pixels went through, its last step a `Normalize`; mean,
    std: what the ViT was trained with instead. The change from the one to the other is folded into the patch embedding, so one
    set of pixels serves this model and the CLIP whose preprocess it is.
    Raises NotImplementedError, with the reason, for a ViT that the class-token decomposition does not cover, ValueError for mean
    and std without such a preprocess.
    """
    reason = _why_not_covered(vit)
    if reason:
        raise NotImplementedError(f"cannot decompose {name}: {reason}")
    first, device = vit.blocks[0], vit.cls_token.device
    scaled = hasattr(first.ls1, "gamma")
    with torch.device("meta"):
        tower = Tower(
            image_size=tuple(vit.patch_embed.img_size),
            patch_size=tuple(vit.patch_embed.patch_size),
            width=vit.embed_dim,
            layers=len(vit.blocks),
            heads=first.attn.num_heads,
            mlp_ratio=(first.mlp.fc1.out_features + 0.5) / vit.embed_dim,  # which is rounded down
            ls_init_value=1.0 if scaled else None,
            output_dim=vit.embed_dim,
            no_ln_pre=isinstance(vit.norm_pre, nn.Identity),
        )
    tower.conv1 = nn.Conv2d(3, vit.embed_dim, vit.patch_embed.patch_size, vit.patch_embed.patch_size, device="meta")
    tower.to_empty(device=device).to(vit.cls_token.dtype)
    state = _renamed(vit)
    if {key: value.shape for key, value in state.items()} != {key: value.shape for key, value in tower.state_dict().items()}:
        raise NotImplementedError(f"cannot decompose {name}: its blocks differ from one another")
    tower.load_state_dict(state)
    tower.ln_post.eps = vit.norm.eps
    if isinstance(vit.norm_pre, nn.LayerNorm):
        tower.ln_pre.eps = vit.norm_pre.eps
    for ours, theirs in zip(tower.transformer.resblocks, vit.blocks):
        ours.ln_1.eps, ours.ln_2.eps, ours.mlp.gelu = theirs.norm1.eps, theirs.norm2.eps, theirs.mlp.act
    if not _same_output(tower.eval(), vit):
        raise NotImplementedError(f"cannot decompose {name}: its output is not that of a plain ViT with the same weights")
    if mean is not None or std is not None:
        _renormalise(tower.conv1, preprocess, mean, std)
    return Clip(_Model(tower).eval().requires_grad_(False), preprocess, name=name)


@dataclass(frozen=True)
class RidgeMap:
    """A linear map features @ weight + bias into a joint space."""

    weight: Tensor  # [D, E]
    bias: Tensor  # [E]
    penalty: float

    def __call__(self, features: Tensor) -> Tensor:
        """[..., D] -> [..., E]"""
        return features @ self.weight.to(features) + self.bias.to(features)


def ridge_map(features: Tensor, targets: Tensor, penalties=PENALTIES) -> RidgeMap:
    """Ridge regression from features [K, D] to targets [K, E], the penalty by leave-one-out cross-validation.

    Raises ValueError where the two differ in length or are not finite.
    """
    if len(features) != len(targets) or not features.isfinite().all() or not targets.isfinite().all():
        raise ValueError(f"need as many features as targets, all finite, got {len(features)} and {len(targets)}")
    x, y = (part.detach().double().cpu().numpy() for part in (features, targets))
    fitted = RidgeCV(alphas=penalties).fit(x, y)
    weight, bias = torch.from_numpy(np.atleast_2d(fitted.coef_).T), torch.from_numpy(np.atleast_1d(fitted.intercept_))
    return RidgeMap(weight.float(), bias.float(), float(fitted.alpha_))


def align(models: Sequence[Clip], clip: Clip, images, **options) -> list[Clip]:
    """For each model one whose representation predicts CLIP's: its own features, mapped to the joint space by ridge regression.

    models: any `Clip`s, such as `from_timm` gives; clip: the model whose space and texts are borrowed; images: a dataset of
    pixels or (pixels, target) pairs to fit on, the same pixels for all. What is predicted are CLIP's representations at unit
    length. A result has its model's layers and heads and clip's texts. options: those of `feed`.
    Raises ValueError for models of another image size than clip's.
    """
    other = [model.name for model in models if model.image_size != clip.image_size]
    if other:
        raise ValueError(f"all must take the same pixels, of size {clip.image_size}; of another size: {', '.join(other)}")
    features, targets = [Rows() for _ in models], Rows()
    views = [(rows, lambda batch, own=own: (own.encode_image(batch.pixels), batch.numbers)) for rows, own in zip(features, models)]
    feed(clip, images, [*views, (targets, lambda batch: (_unit(clip, batch.pixels), batch.numbers))], **options)
    return [_read_out(own, clip, ridge_map(rows.rows, targets.rows)) for own, rows in zip(models, features)]


def alignment_r2(models: Sequence[Clip], clip: Clip, images, **options) -> list[float]:
    """Share of the variance of CLIP's unit representations that each aligned model predicts (coefficient of determination).

    Over all dimensions together; images: others than those of `align`.
    """
    scores = [R2Score(multioutput="variance_weighted").to(clip.device) for _ in models]

    def views(batch, own):
        return own.encode_image(batch.pixels).float(), batch.once("unit", lambda: _unit(clip, batch.pixels))

    feed(clip, images, [(score, partial(views, own=own)) for score, own in zip(scores, models)], **options)
    return [score.compute().item() for score in scores]


class _Model(nn.Module):
    """What `Clip` asks of a model: an image tower, and texts if a CLIP lends them."""

    def __init__(self, visual: Tower, lender: nn.Module | None = None):
        super().__init__()
        self.visual, self.lender = visual, lender

    @property
    def text(self) -> nn.Module | None:
        return getattr(self.lender, "text", self.lender)

    def encode_image(self, pixels: Tensor) -> Tensor:
        return self.visual(pixels)

    def encode_text(self, tokens: Tensor) -> Tensor:
        return self.lender.encode_text(tokens)


def _read_out(own: Clip, clip: Clip, fitted: RidgeMap) -> Clip:
    """`own` with the fitted map folded into a copy of its last norm and projection, and clip's texts.

    What a layer norm puts out before its weight sums to zero over the width, so one row may be added to all rows of the
    projection: only the norm's bias, here all ones, carries it. That row makes room for the map's own bias.
    """
    norm, dtype = final_norm(own), compute_dtype(own)
    weight = norm.proj @ fitted.weight.to(norm.proj)  # own's features are its normed stream times proj
    matrix = norm.gamma[:, None] * weight
    constant = norm.beta @ weight + fitted.bias.to(weight)
    tower = copy.deepcopy(own.visual)
    tower.ln_post = nn.LayerNorm(own.d_model, eps=norm.eps).to(own.device, dtype)
    nn.init.ones_(tower.ln_post.bias)
    tower.proj = nn.Parameter((matrix + (constant - matrix.sum(0)) / own.d_model).to(own.dtype))
    model = _Model(tower, clip.model).eval().requires_grad_(False)
    return Clip(model, clip.preprocess, clip.tokenizer, f"{own.name} aligned to {clip.name}")


def _unit(clip: Clip, pixels: Tensor) -> Tensor:
    return nn.functional.normalize(clip.encode_image(pixels).float(), dim=-1)


def _renamed(vit: VisionTransformer) -> dict[str, Tensor]:
    """The weights of a timm ViT under the names of OpenCLIP's tower, with an identity as projection."""
    state = {
        "class_embedding": vit.cls_token[0, 0],
        "positional_embedding": vit.pos_embed[0],
        "proj": torch.eye(vit.embed_dim),
        "conv1.weight": vit.patch_embed.proj.weight,
        "conv1.bias": torch.zeros(vit.embed_dim) if vit.patch_embed.proj.bias is None else vit.patch_embed.proj.bias,
        "ln_post.weight": vit.norm.weight,
        "ln_post.bias": vit.norm.bias,
    }
    if vit.no_embed_class:
        state["positional_embedding"] = torch.cat([torch.zeros_like(vit.pos_embed[0, :1]), vit.pos_embed[0]])
    if not isinstance(vit.norm_pre, nn.Identity):
        state.update({"ln_pre.weight": vit.norm_pre.weight, "ln_pre.bias": vit.norm_pre.bias})
    parts = {
        "norm1": "ln_1", "norm2": "ln_2", "attn.proj": "attn.out_proj", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
        "ls1": "ls_1", "ls2": "ls_2",
    }  # fmt: skip
    for layer, block in enumerate(vit.blocks):
        ours, qkv = f"transformer.resblocks.{layer}.", block.attn.qkv
        state[ours + "attn.in_proj_weight"] = qkv.weight
        state[ours + "attn.in_proj_bias"] = torch.zeros(len(qkv.weight)) if qkv.bias is None else qkv.bias
        for name, parameter in block.named_parameters():
            part, _, kind = name.rpartition(".")
            if part in parts:
                state[f"{ours}{parts[part]}.{kind}"] = parameter
    return state


@torch.no_grad()
def _same_output(tower: Tower, vit: VisionTransformer) -> bool:
    """Whether both say the same of one image of noise, up to rounding."""
    weight = vit.patch_embed.proj.weight
    pixels = torch.randn(1, 3, *vit.patch_embed.img_size, generator=torch.Generator().manual_seed(0)).to(weight)
    expected, found = vit(pixels).float(), tower(pixels).float()
    return found.shape == expected.shape and bool((found - expected).norm() < 0.02 * expected.norm())


def _renormalise(conv: nn.Conv2d, preprocess, mean, std) -> None:
    """Let the patch embedding take pixels normalised by `preprocess` in place of mean and std."""
    steps = [step for step in getattr(preprocess, "transforms", []) if isinstance(step, Normalize)]
    if mean is None or std is None or not steps:
        raise ValueError("give mean and std together, and a preprocess whose steps hold a Normalize, such as clip.preprocess")
    given_mean, given_std, mean, std = (torch.as_tensor(v).to(conv.weight) for v in (steps[-1].mean, steps[-1].std, mean, std))
    with torch.no_grad():
        conv.bias += torch.einsum("oihw,i->o", conv.weight, (given_mean - mean) / std)
        conv.weight *= (given_std / std)[:, None, None]


def _why_not_covered(vit) -> str | None:
    """Why an OpenCLIP tower cannot hold this ViT, or None."""
    if not isinstance(vit, VisionTransformer):
        return f"it is a {type(vit).__name__}; only timm's VisionTransformer is covered"
    if not vit.has_class_token:
        return "it has no class token, at which the decomposition reads it out"
    if vit.global_pool != "token":
        return "it is not read out at a class token; make it with timm.create_model(..., global_pool='token')"
    if vit.num_reg_tokens:
        return "it has trained register tokens, for which OpenCLIP's tower has no place"
    if vit.num_prefix_tokens != 1:
        return "it has a second token that is read out, for distillation, for which OpenCLIP's tower has no place"
    if vit.pos_embed is None or not isinstance(vit.norm, nn.LayerNorm) or not isinstance(vit.fc_norm, nn.Identity):
        return "it has no learned positions, or no layer norm right after its last block"
    if type(vit.patch_embed) is not PatchEmbed or vit.patch_embed.img_size is None:
        return f"its patches come from a {type(vit.patch_embed).__name__} that has no fixed size or is no plain convolution"
    if vit.patch_embed.proj.in_channels != 3:
        return f"its images have {vit.patch_embed.proj.in_channels} channels, and CLIP's have 3"
    if not isinstance(vit.patch_embed.norm, nn.Identity):
        return "it has a norm after its patch embedding, for which OpenCLIP's tower has no place"
    if not isinstance(vit.head, nn.Identity):
        return "it has a classifier; make it with timm.create_model(..., num_classes=0)"
    if vit.training:
        return "it is in training mode; call vit.eval() first"
    for block in vit.blocks:
        plain = type(block) is Block and type(block.attn) is Attention and type(block.mlp) is Mlp
        extra = plain and [block.attn.q_norm, block.attn.k_norm, block.attn.norm, block.mlp.norm]
        gated = plain and getattr(block.attn, "gate", None) is not None  # newer timm
        if not plain or gated or not all(isinstance(part, nn.Identity) for part in extra):
            kinds = [type(part).__name__ for part in (block, getattr(block, "attn", None), getattr(block, "mlp", None)) if part]
            return f"its blocks are custom ({', '.join(kinds)})"
        for norm in (block.norm1, block.norm2):
            if not isinstance(norm, nn.LayerNorm):
                return f"its blocks have a {type(norm).__name__} for a layer norm"
        if any(part.bias is None for part in (block.attn.proj, block.mlp.fc1, block.mlp.fc2, block.norm1, block.norm2, vit.norm)):
            return "its projections or norms have no bias"
        if block.attn.qkv.out_features != 3 * vit.embed_dim:
            return "its heads together are not as wide as its residual stream"
    return None
