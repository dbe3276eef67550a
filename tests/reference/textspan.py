"""TextSpan (thesis, algorithm 1) in data space: every round builds the matrix of all inner products, texts by images."""

import torch
from torch import Tensor


def textspan(outputs: Tensor, texts: Tensor, size: int, rank: int | None = None, noise: float = 1e-6) -> tuple[list[int], Tensor]:
    """The picked texts, and the projection [K, E] of the outputs less their mean on what they span.

    outputs: [K, E] of one head; texts: [T, E]; rank: of the outputs, by default how many singular values lie above the noise.
    """
    _, sizes, directions = torch.linalg.svd(outputs, full_matrices=False)
    directions = directions[:rank] if rank is not None else directions[sizes > noise * sizes[0]]
    texts, left = texts @ directions.T @ directions, outputs - outputs.mean(0)
    picks, projected = [], torch.zeros_like(left)
    for _ in range(size):
        best = (texts @ left.T).std(1).argmax().item()
        text = texts[best].clone()
        if text.norm() < 1e-5:
            break
        along = torch.outer(left @ text, text) / text.square().sum()
        projected, left = projected + along, left - along
        texts = texts - torch.outer(texts @ text, text) / text.square().sum()
        picks.append(best)
    return picks, projected
