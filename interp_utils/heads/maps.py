"""Where in an image a text is found (thesis, section 2.5)."""

import torch
from torch import Tensor

from .direct import DirectEffects
from .textspan import TextSpan


def token_maps(effects: DirectEffects, text_features: Tensor) -> Tensor:
    """Token map of each text on each image, all heads together, [B, T, rows, columns] (thesis, section 2.5)."""
    return _on_grid(effects, effects.scores(text_features, over="token"))


def relative_maps(effects: DirectEffects, first: Tensor, second: Tensor) -> Tensor:
    """Map of one text [E] less that of another, [B, rows, columns]: what speaks for the one against the other (figure A.2b)."""
    return token_maps(effects, (first - second)[None])[:, 0]


def basis_maps(
    effects: DirectEffects, layer: int, head: int, span: TextSpan, text_features: Tensor, reference: Tensor
) -> tuple[list[int], list[int], Tensor]:
    """Where a head found its most and its least similar basis text, for each image (thesis, figures 2.6 and A.3).

    text_features: [T, E] of the pool of the span; reference: [C, E] texts whose mean map is removed, to take out the bias.
    Returns the pool indices of the most and of the least similar text of each image, and their maps, [B, 2, rows, columns].
    """
    basis = text_features[span.indices].to(effects.pixels.device)
    scores = effects.heads([layer])[:, 0, head] @ basis.to(effects.heads([layer])).T  # [B, m]
    most, least = scores.argmax(1), scores.argmin(1)
    tokens = effects.head_tokens(layer, head)  # [B, N, E]
    wanted = torch.stack([basis[most], basis[least]], 1) - reference.mean(0).to(basis)
    maps = _on_grid(effects, torch.einsum("bnE,btE->bnt", tokens, wanted.to(tokens)))
    pool = torch.tensor(span.indices)
    return pool[most.cpu()].tolist(), pool[least.cpu()].tolist(), maps


def _on_grid(effects: DirectEffects, scores: Tensor) -> Tensor:
    """[B, N, T] of all tokens -> of the patches [B, T, rows, columns]."""
    return scores[:, effects.clip.n_prefix :].movedim(1, 2).unflatten(-1, effects.clip.grid)
