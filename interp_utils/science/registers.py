"""High-norm tokens and test-time registers (Darcet et al. 2024; Jiang et al. 2025, "Vision transformers don't need trained
registers").

Large ViTs write a few patch tokens of huge norm, on patches that hold little, and heat maps show them as spots. A few neurons
write them. Their activations can be moved into a token that the model never had, and the spots are gone.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor

from ..checks import checked_count
from ..hooks import attention_norm, attention_weights, edited_neurons, final_norm, trace, visit_attention_inputs, visit_neurons
from ..hooks.interventions import extra_token, visit_streams, with_neuron
from ..models import Clip
from .pairs import Neuron


def token_norms(clip: Clip, pixels: Tensor) -> Tensor:
    """Length of each token's residual stream as it leaves each layer, [B, L, N]; the first `clip.n_prefix` are no patches."""
    norms = []
    visit_streams(clip, clip.pixels(pixels), lambda layer, stream: norms.append(stream.norm(dim=-1)))
    return torch.stack(norms, 1)


def register_neurons(clip: Clip, pixels: Tensor, threshold: float, layer: int, top: int = 10) -> list[tuple[Neuron, float]]:
    """The neurons most active where outliers are: ((layer, neuron), mean absolute activation there), largest first.

    Outliers are patch tokens whose stream leaves `layer` longer than `threshold`; candidates are all neurons up to that layer
    (Jiang et al., algorithm 1). One that only reads long tokens is active on them as well: switch candidates off, one at a time, to
    see which of them writes. Raises ValueError where there is no outlier.
    """
    pixels = clip.pixels(pixels)
    norms = token_norms(clip, pixels)[:, layer]
    outlier = norms > threshold
    outlier[:, : clip.n_prefix] = False  # which are no patches
    if not outlier.any():
        raise ValueError(
            f"no patch token leaves layer {layer} longer than {threshold:g}; the longest is {norms[:, clip.n_prefix :].max():.1f}"
        )
    scores = []
    visit_neurons(clip, pixels, lambda _, p: scores.append(p[outlier].abs().mean(0)), list(range(layer + 1)))
    best = torch.stack(scores).flatten().topk(checked_count("top", top, len(scores) * len(scores[0])))
    width = scores[0].shape[0]
    return [(divmod(place, width), value) for place, value in zip(best.indices.tolist(), best.values.tolist())]


@contextmanager
def register_token(clip: Clip, neurons: Sequence[Neuron] = ()) -> Iterator[None]:
    """For a `with` block, add one untrained token and move the activations of some neurons into it (test-time register).

    On the new token each of them is as active as on the patch where it is most active, on the patches it is silent; the class
    token keeps its own. Activations and streams have N+2 tokens meanwhile, the register last. Without neurons the token is
    added and nothing is moved: the control.
    """
    by_layer: dict[int, list[int]] = {}
    for layer, neuron in neurons:
        by_layer.setdefault(layer, []).append(neuron)

    def moved(numbers):
        def edit(activations):
            changed = activations.clone()
            changed[:, -1, numbers] = activations[:, clip.n_prefix : -1, numbers].amax(1)
            changed[:, clip.n_prefix : -1, numbers] = 0
            return changed

        return edit

    with ExitStack() as stack:
        stack.enter_context(extra_token(clip))
        for layer, numbers in by_layer.items():
            stack.enter_context(edited_neurons(clip, layer, moved(numbers)))
        yield


@torch.no_grad()
def plant_outliers(clip: Clip, pixels: Tensor, layer: int, neuron: int, length: float, share: float = 0.05) -> Clip:
    """A copy of the model in which one neuron writes tokens of high norm on flat patches: a known truth for the search.

    The neuron reads the direction that tells the two flattest patches of an image from the others (least squares on what the
    MLP reads) and fires on about `share` of all patches of pixels [B, 3, H, W], where it writes a vector of about `length`
    toward which later class tokens look: the mean of their queries, through the keys' weights. Raises NotImplementedError where
    many tokens are read out, or a neuron has a gate.
    """
    final_norm(clip)  # which says so where no class token alone is read out
    inputs = next(block for number, block in enumerate(trace(clip, clip.pixels(pixels))) if number == layer).mlp_input[
        :, clip.n_prefix :
    ]
    side = clip.image_size[0] // clip.grid[0], clip.image_size[1] // clip.grid[1]
    contrast = torch.nn.functional.unfold(clip.pixels(pixels), side, stride=side).var(1)  # [B, N]
    flattest = (contrast.argsort(1).argsort(1) < 2).flatten().to(inputs)
    inputs = inputs.flatten(0, 1)
    mean = inputs.mean(0)
    centred = inputs - mean
    ridge = torch.eye(clip.d_model).to(inputs)
    w_in = torch.linalg.solve(centred.T @ centred + ridge, centred.T @ (flattest - flattest.mean()))
    score = centred @ w_in
    bar = score.quantile(1 - share)
    scale = 4 / (score[score > bar].mean() - bar)  # where it fires, the neuron is at 4 on average: well past the bend
    w_in, bar = w_in * scale, bar * scale
    looked_at = []

    def queries(after, x):
        weights, gamma = attention_weights(clip, after), attention_norm(clip, after).weight
        query = torch.einsum("hdD,bD->bhd", weights.w_q, x[:, 0]) + weights.b_q
        looked_at.append(torch.einsum("bhd,hdD->D", query, weights.w_k) / len(x) * gamma)

    visit_attention_inputs(clip, pixels, queries, list(range(layer + 1, clip.n_layers)))
    w_out = sum(looked_at) - sum(looked_at).mean()
    return with_neuron(clip, layer, neuron, w_in, -(bar + mean @ w_in).item(), w_out / w_out.norm() * length / 4)
