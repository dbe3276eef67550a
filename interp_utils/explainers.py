"""Heat maps of image towers by other methods, to compare with (thesis, tables 2.4 and 3.4, figure A.4).

Every explainer is called as f(clip, pixels, text_features) and gives [B, rows, columns] on the patch grid, not scaled, in
float32 or better. pixels: [B, 3, H, W], preprocessed. text_features: [B, E], a text vector for each image, or [E], one for
all. What is explained is <M(I) / |M(I)|, t>, the cosine with the image's text if that has unit length. All raise ValueError
for text features of another shape or not finite, and for pixels that the model cannot take. The model is left as it was.

They were made for a class token. Where many tokens are read out, "its attention" is that of all tokens, each as much as the
read-out takes of it. Relevance (`lrp`, `partial_lrp`, `chefer` with "cvpr") has rules for plain blocks and a class token alone,
`clip_patch_tokens` needs a read-out of one token; for other towers these raise NotImplementedError.
"""

from collections.abc import Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from . import hooks
from .models import Clip

Block = hooks.AttentionTrace | hooks.BlockTrace
TINY = 1e-9  # a smaller sum gives no share of its relevance to anyone


@torch.no_grad()
def raw_attention(clip: Clip, pixels: Tensor, text_features: Tensor) -> Tensor:
    """Attention of what is read out to the patches in the last layer, mean over heads: [B, rows, columns].

    The text is checked but has no influence. Raises ValueError as the module says.
    """
    pixels, _ = _checked(clip, pixels, text_features)
    return _on_grid(clip, hooks.record(clip, pixels).attention[:, -1].mean(1))


@torch.no_grad()
def rollout(clip: Clip, pixels: Tensor, text_features: Tensor) -> Tensor:
    """Attention multiplied through all layers but the first, residual stream included: [B, rows, columns].

    The text is checked but has no influence. The first layer is left out as in the comparison of Chefer et al. (2021). Raises
    ValueError as the module says. Source: Abnar & Zuidema 2020, arXiv 2005.00928.
    """
    pixels, _ = _checked(clip, pixels, text_features)
    joint, final = _rollout_matrix(clip, pixels)
    return _on_grid(clip, (_read_share(clip, final) @ joint)[:, 0])


@torch.no_grad()
def grad_cam(clip: Clip, pixels: Tensor, text_features: Tensor) -> Tensor:
    """Attention of the last layer, each head weighted by its mean gradient over patches: [B, rows, columns] >= 0.

    Mean over heads, sum over the tokens that are read out; negatives become 0, so a map may be 0 everywhere. Raises ValueError as
    the module says. Source: Selvaraju et al. 2017, arXiv 1610.02391, on attention maps, as Chefer et al. 2021 (arXiv 2012.09838)
    compare with it.
    """
    pixels, text = _checked(clip, pixels, text_features)
    block, gradient = next(_gradients(clip, hooks.trace_streams(clip, pixels), text))
    weight = gradient[..., clip.n_prefix :].mean(-1, keepdim=True)
    return _on_grid(clip, (weight * block.attention).sum(2).mean(1).clamp(min=0))


@torch.no_grad()
def lrp(clip: Clip, pixels: Tensor, text_features: Tensor) -> Tensor:
    """Relevance propagated from the score to the pixels and summed over each patch: signed, [B, rows, columns].

    It starts as 1 for each image. What the map's sum lacks to 1 went to the class token's and the position embeddings.
    Raises ValueError as the module says. Source: Binder et al. 2016, arXiv 1604.00825, with the rules for attention of
    Chefer et al. 2021, arXiv 2012.09838: alpha=1, beta=0 in linear layers, biases left out; a matrix product gives half to
    each factor; a sum is split by contribution and rescaled; norms, softmax and activation functions pass it on unchanged.
    """
    pixels, text = _checked(clip, pixels, text_features)
    return _pixel_relevance(clip, pixels, text)[0].sum(-1).unflatten(1, clip.grid)


@torch.no_grad()
def partial_lrp(clip: Clip, pixels: Tensor, text_features: Tensor) -> Tensor:
    """Relevance of the class token's attention in the last layer, without negatives, mean over heads: [B, rows, columns].

    Relevance as in `lrp`. Raises ValueError as the module says.
    Source: Voita et al. 2019, arXiv 1905.09418, as Chefer et al. 2021 compare with it.
    """
    pixels, text = _checked(clip, pixels, text_features)
    last = hooks.trace_block(clip, clip.n_layers - 1, hooks.trace_streams(clip, pixels)[-2])
    attention, _ = _block_relevance(last, _score_relevance(clip, last.output, text))
    return _on_grid(clip, attention[:, :, 0].clamp(min=0).mean(1))


@torch.no_grad()
def chefer(clip: Clip, pixels: Tensor, text_features: Tensor, variant: str = "cvpr", start_layer: int = 0) -> Tensor:
    """Attention weighted by its gradient, multiplied through the layers from `start_layer`: [B, rows, columns] >= 0.

    Each layer turns R, at first the identity, into R + C R, where C is the mean over heads of the positive part of gradient
    times, for variant "cvpr", the attention's relevance as in `lrp` (arXiv 2012.09838), or, for "iccv", the attention itself
    (arXiv 2103.15679). Products of several layers count for more the longer the text vector is. Chefer et al. compare with
    "cvpr" from layer 1, and their CLIP demonstration uses "iccv" in the last layer only. Raises ValueError as the module
    says, for another variant, and where there is no such layer.
    """
    if variant not in ("cvpr", "iccv"):
        raise ValueError(f"variant must be 'cvpr' or 'iccv', got {variant!r}")
    if not 0 <= start_layer < clip.n_layers:
        raise ValueError(f"start_layer must be from 0 to {clip.n_layers - 1}, got {start_layer}")
    pixels, text = _checked(clip, pixels, text_features)
    streams = hooks.trace_streams(clip, pixels)
    row = _read_share(clip, streams[-1])  # only this row of R is wanted, so the product is built from the last layer backwards
    relevance = _score_relevance(clip, streams[-1], text) if variant == "cvpr" else None
    layers = reversed(range(start_layer, clip.n_layers))
    for _, (block, gradient) in zip(layers, _gradients(clip, streams, text)):
        weighed = block.attention
        if variant == "cvpr":
            weighed, relevance = _block_relevance(block, relevance)
        row = row + row @ (gradient * weighed).clamp(min=0).mean(1)
    return _on_grid(clip, row[:, 0])


@torch.no_grad()
def of_relevance(clip: Clip, pixels: Tensor, text_features: Tensor) -> dict[str, Tensor]:
    """What `lrp`, `partial_lrp` and `chefer` give by default, by these names, from one way back through the model.

    Raises ValueError as the module says.
    """
    pixels, text = _checked(clip, pixels, text_features)
    streams = hooks.trace_streams(clip, pixels)
    row, relevance, found = _read_share(clip, streams[-1]), _score_relevance(clip, streams[-1], text), {}
    for block, gradient in _gradients(clip, streams, text):
        attention, relevance = _block_relevance(block, relevance)
        found = found or {"partial_lrp": _on_grid(clip, attention[:, :, 0].clamp(min=0).mean(1))}  # of the last layer
        row = row + row @ (gradient * attention).clamp(min=0).mean(1)
    reached, _ = _embedding_relevance(clip, pixels, relevance)
    return found | {"lrp": reached.sum(-1).unflatten(1, clip.grid), "chefer": _on_grid(clip, row[:, 0])}


@torch.no_grad()
def clip_patch_tokens(clip: Clip, pixels: Tensor, text_features: Tensor) -> Tensor:
    """Cosine of each final patch token with the text, as if it were the class token: [B, rows, columns].

    The model was never trained for this. Raises ValueError as the module says. Source: the plain CLIP that Zhou et al.
    2022 (arXiv 2112.01071) and later work on dense prediction compare with.
    """
    pixels, text = _checked(clip, pixels, text_features)
    norm = hooks.final_norm(clip)
    tokens = F.normalize(norm(hooks.trace_streams(clip, pixels)[-1]), dim=-1)
    return _on_grid(clip, torch.einsum("bne,be->bn", tokens, F.normalize(text, dim=-1)))


def _checked(clip: Clip, pixels: Tensor, text_features: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels [B, 3, H, W] and texts [B, E], ready for the model."""
    pixels = clip.pixels(pixels)
    wanted = (len(pixels), clip.d_embed)
    if isinstance(text_features, Tensor) and tuple(text_features.shape) not in (wanted, wanted[1:]):
        raise ValueError(
            f"need text features [{wanted[0]}, {wanted[1]}], one text for each image, or [{wanted[1]}], "
            f"got {list(text_features.shape)}; classifier[labels] gives that from class vectors"
        )
    one = isinstance(text_features, Tensor) and text_features.ndim == 1
    vectors = clip.vectors(text_features[None] if one else text_features)
    return pixels, vectors.to(hooks.compute_dtype(clip)).expand(wanted)


def _on_grid(clip: Clip, tokens: Tensor) -> Tensor:
    """Values of all tokens [B, N] -> of the patches [B, rows, columns]."""
    return tokens[:, clip.n_prefix :].unflatten(1, clip.grid)


def _rollout_matrix(clip: Clip, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """How much each token's stream at the end is made of each token's after the first layer, [B, N, N]; and that stream."""
    blocks, found, joint = clip.tower.blocks, [], None

    def attends(layer: int, x: Tensor) -> None:
        nonlocal joint
        pattern = hooks.attention_weights(clip, layer).pattern(x.to(hooks.compute_dtype(clip))).mean(1)
        pattern.diagonal(dim1=1, dim2=2).add_(1)
        joint = pattern / 2 if joint is None else pattern / 2 @ joint  # rows still sum to one

    visits = [(hooks.attention_input(block), partial(attends, layer)) for layer, block in enumerate(blocks)][1:]
    hooks.visit(clip, pixels, [*visits, ((blocks[-1].whole, False), found.append)])
    (final,) = found
    eye = torch.eye(final.shape[1]).to(final).expand(len(final), -1, -1)
    return eye if joint is None else joint, final


def _read_share(clip: Clip, final: Tensor) -> Tensor:
    """How much the read-out takes of each token of the final stream, [B, 1, N], as shares of 1: of a class token all."""
    rho = clip.tower.read_out(final.to(hooks.compute_dtype(clip))).rho.sum(1, keepdim=True)
    return rho / rho.sum(-1, keepdim=True)


def _gradients(clip: Clip, streams: list[Tensor], text: Tensor) -> Iterator[tuple[Block, Tensor]]:
    """Each block, from the last to the first, with the score's gradient by its attention, [B, H, N, N].

    Only one block's activations exist at a time. No gradient reaches the parameters: it is asked for by name.
    """
    # Inference mode ends here too, and clones are made, for autograd refuses tensors that were made within it.
    with torch.inference_mode(False), torch.enable_grad():
        stream = streams[-1].clone().requires_grad_()
        representation = hooks.read(clip, stream)
        score = (F.normalize(representation, dim=-1) * text.clone()).sum()  # images do not mix, so the sum serves them all
        (gradient,) = torch.autograd.grad(score, stream)
    for layer in reversed(range(clip.n_layers)):
        with torch.inference_mode(False), torch.enable_grad():
            stream = streams[layer].clone().requires_grad_()
            block = hooks.trace_attention(clip, layer, stream)
            by_attention, gradient = torch.autograd.grad(block.output, (block.attention, stream), gradient)
        yield block, by_attention


def _score_relevance(clip: Clip, final: Tensor, text: Tensor) -> Tensor:
    """Relevance of the final residual stream [B, N+1, D], which sums to 1 for each image.

    Projection and text are one linear layer: the axes of the joint space, between the two, have no meaning of their own.
    """
    norm = hooks.final_norm(clip)
    normed = F.layer_norm(final[:, 0], norm.gamma.shape, norm.gamma, norm.beta, norm.eps)
    positive = (normed * (text @ norm.proj.T)).clamp(min=0)
    relevance = torch.zeros_like(final)
    relevance[:, 0] = _ratio(positive, positive.sum(-1, keepdim=True))
    return relevance


def _block_relevance(block: hooks.BlockTrace, relevance: Tensor) -> tuple[Tensor, Tensor]:
    """Relevance of a block's attention [B, H, N+1, N+1] and of the stream that enters it, from that of its output."""
    skipped, written = _through_sum(block.middle, block.mlp_output, relevance)
    written = _through_linear(block.neurons, block.w_proj, written)
    relevance = skipped + _through_linear(block.mlp_input, block.w_fc, written)
    skipped, written = _through_sum(block.stream, block.attention_output, relevance)
    written = _through_linear(block.mixed.transpose(1, 2).flatten(2), block.heads.w_o.flatten(1), written)
    written = written.unflatten(2, block.heads.w_o.shape[1:]).transpose(1, 2)
    attention, value = _through_product(block.attention, block.value, written)
    query, key = _through_product(block.query, block.key.mT, attention)
    for weight, part in ((block.heads.w_q, query), (block.heads.w_k, key.mT), (block.heads.w_v, value)):
        skipped = skipped + _through_linear(block.attention_input, weight.flatten(0, 1), part.transpose(1, 2).flatten(2))
    return attention, skipped


def _pixel_relevance(clip: Clip, pixels: Tensor, text: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Relevance of each patch's pixels [B, N, P], of the class token's and the position embeddings together [B], and of the
    residual streams [B, N+1, D] from the last to the first."""
    streams = hooks.trace_streams(clip, pixels)
    steps = [_score_relevance(clip, streams[-1], text)]
    for layer in reversed(range(clip.n_layers)):
        steps.append(_block_relevance(hooks.trace_block(clip, layer, streams[layer]), steps[-1])[1])
    return *_embedding_relevance(clip, pixels, steps[-1]), steps


def _embedding_relevance(clip: Clip, pixels: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
    """Relevance of each patch's pixels [B, N, P], and of both embeddings together [B], from that of the first stream."""
    embedding = hooks.trace_embedding(clip, pixels)
    tokens, positions = _through_sum(embedding.tokens, embedding.positions.expand_as(embedding.tokens), relevance)
    reached = _through_linear(embedding.patches, embedding.kernel, tokens[:, 1:])
    return reached, tokens[:, 0].sum(-1) + positions.sum((1, 2))


def _ratio(relevance: Tensor, total: Tensor) -> Tensor:
    return torch.where(total.abs() < TINY, 0, relevance / total)


def _through_linear(x: Tensor, weight: Tensor, relevance: Tensor) -> Tensor:
    """Relevance of x [..., I] from that of x @ weight.T [..., O], shared among positive contributions (alpha=1, beta=0)."""
    positive, negative = x.clamp(min=0), x.clamp(max=0)
    w_positive, w_negative = weight.clamp(min=0), weight.clamp(max=0)
    share = _ratio(relevance, positive @ w_positive.T + negative @ w_negative.T)
    return positive * (share @ w_positive) + negative * (share @ w_negative)


def _through_product(left: Tensor, right: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
    """Relevance of both factors from that of left @ right, half of it for each."""
    share = _ratio(relevance, left @ right) / 2
    return left * (share @ right.mT), right * (left.mT @ share)


def _through_sum(first: Tensor, second: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
    """Relevance of both terms [B, N+1, D] from that of their sum.

    Where the terms nearly cancel, plain shares grow without bound, so each image's shares are rescaled: a term as a whole
    gets a part in proportion to the size of its plain total (arXiv 2012.09838, normalisation of relevance).
    """
    share = _ratio(relevance, first + second)
    parts = first * share, second * share
    totals = [part.sum((1, 2), keepdim=True) for part in parts]
    scale = _ratio(relevance.sum((1, 2), keepdim=True), totals[0].abs() + totals[1].abs())
    return tuple(part * total.sign() * scale for part, total in zip(parts, totals))
