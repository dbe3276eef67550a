"""Second-order effects: what a neuron writes into the representation through all later attention heads (thesis, section 3.3).

The effect of neuron n of layer l on image I is low-rank (eq. 3.3; with layer norms, eq. B.5): a sum over the heads k of later
layers of s_kn(I) g_kn. The number s_kn is the neuron's activation, averaged with the head's attention; the direction g_kn is
the neuron's output weight, pushed through the head, and the same for all images.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..checks import checked_count
from ..heads.direct import read_out_matrix
from ..hooks import NeuronFlow, attention_norm, attention_weights, final_norm, neuron_weights, record_neurons
from ..models import Clip

CHUNK = 256  # neurons whose directions [K, E] exist at the same time


def late_layers(n_layers: int) -> list[int]:
    """The three layers before the last, whose neurons the thesis reads: 8 to 10 of ViT-B's 12, 20 to 22 of ViT-L/14's 24."""
    return list(range(checked_count("n_layers", n_layers, least=4) - 4, n_layers - 1))


def curve_layers(n_layers: int) -> list[int]:
    """Layers to draw effects by layer for (figures 3.3 and B.2): all but the last; of a deep model half of the last twelve.

    The three `late_layers` are always among them.
    """
    late, last = late_layers(n_layers), n_layers - 1
    return list(range(last)) if last < 12 else sorted({*range(last - 12, last, 2), *late})


def second_order(clip: Clip, layer: int, ln: str | None = None, relative: bool = False) -> "SecondOrder":
    """Factors of the second-order effects of all neurons of an MLP layer (thesis eqs. 3.3 and B.5).

    ln: how the frozen layer norms are shared, by default as the Clip says. "centered" takes from each neuron's output, and from
    what each head makes of it, its own mean over the width, and leaves constants out: exact, and linear in the neuron. "split"
    subtracts equal shares of the means of the stream and adds equal shares of all biases, as the thesis's published code does; that
    adds to each image's effects one residue, the same for all neurons. relative: divide an image's effects by the length of its
    representation, as all published experiments do.
    Raises IndexError for a layer that is not there, ValueError for the last one, whose neurons no head reads, or another `ln`.
    """
    return SecondOrder(clip, layer, ln, relative)


class SecondOrder:
    """What the M neurons of a layer write through the K = (later layers) x H heads after it.

    `heads` lists the (layer, head) pairs. A tower that pools by P attention heads reads each of them out P times: K is P times as
    large, the read-outs of a head next to each other. After `fit`, `directions` [M, E], `mean` [M, E] and `thresholds` [M]
    describe each neuron by one line in the joint space (see `rank_one`).
    """

    def __init__(self, clip: Clip, layer: int, ln: str | None = None, relative: bool = False):
        if not 0 <= layer < clip.n_layers:
            raise IndexError(f"no layer {layer}: the model has {clip.n_layers} layers")
        if layer == clip.n_layers - 1:
            raise ValueError(f"neurons of the last layer, {layer}, have no second-order effect: no attention comes after them")
        self.clip, self.layer, self.ln, self.relative = clip, layer, clip.checked_ln(ln), relative
        later = list(range(layer + 1, clip.n_layers))
        self.heads = [(after, head) for after in later for head in range(clip.n_heads)]
        self.fitted = None
        w_out, *_ = neuron_weights(clip, layer).linear()
        matrix = read_out_matrix(clip, self.ln).unflatten(0, (-1, clip.d_model))
        self.n_read = len(matrix)  # how often each head is read out
        values, read_out = [], []
        for after in later:
            weights, norm = attention_weights(clip, after), attention_norm(clip, after)
            if norm is None:
                read = w_out
            else:
                read = norm.weight * w_out if self.ln == "split" else norm.unscaled(w_out.T).T
            values.append(torch.einsum("hdD,mD->hmd", weights.w_v, read))
            read_out.append(torch.einsum("Dhd,rDE->hrdE", weights.linear()[0], matrix).flatten(0, 1))
        self.values = torch.cat(values)  # [heads, M, d], each neuron's output as the value of each head
        self.read_out = torch.cat(read_out)  # [K, d, E], from values to the joint space

    def __repr__(self) -> str:
        n, k = self.values.shape[1], len(self.heads)
        return f"SecondOrder({self.clip.name}, layer {self.layer}: {n} neurons through {k} later heads, ln={self.ln!r})"

    def on(self, pixels: Tensor, flow: NeuronFlow | None = None) -> "Effects":
        """Factors of the effects on a batch [B, 3, H, W]; flow: what `record_neurons` gave for it, if it ran already."""
        if flow is None:
            flow = record_neurons(self.clip, self.clip.pixels(pixels), [self.layer])
        final, scale = flow.final, flow.scale
        length = flow.representation.norm(dim=-1, keepdim=True) if self.relative else torch.ones_like(scale)
        shares = torch.zeros_like(scale[:, :0])
        if self.ln == "split":
            later = slice(self.layer + 1, None)
            sums = [flow.per_std[:, later].flatten(1) * scale, flow.mean_per_std[:, later].flatten(1) * scale]
            shares = torch.cat([*sums, scale, final.mean(-1, keepdim=True) * scale, torch.ones_like(scale)], 1) / length
        return Effects(self, flow.attended[self.layer] * (scale / length)[..., None], shares)

    def effects(self, pixels: Tensor, neurons=None) -> Tensor:
        """Effects [B, n, E] of some neurons, a list of numbers, or of all."""
        return self.on(pixels).vectors(neurons)

    def norms(self, pixels: Tensor) -> Tensor:
        """Lengths [B, M] of the effects of all neurons, from K numbers for each; the effects are not built."""
        return self.on(pixels).norms()

    def fit(self, images, top: int = 100, **options) -> "SecondOrder":
        """Describe each neuron by one direction (see `rank_one.fit`). images: a dataset or DataLoader. Returns itself."""
        from .rank_one import fit  # which needs this class

        fit([self], images, top, **options)
        return self

    @property
    def directions(self) -> Tensor:
        """r_n, the unit direction of each neuron, [M, E]."""
        return self.rank_one.directions

    @property
    def mean(self) -> Tensor:
        """b_n, the mean effect of each neuron over the fitted images, [M, E]."""
        return self.rank_one.mean

    @property
    def thresholds(self) -> Tensor:
        """Distance from the mean from which on an effect is among the `top` largest of the fitted images, [M]."""
        return self.rank_one.thresholds

    @property
    def rank_one(self):
        """All that `fit` found, a `RankOne`. Raises RuntimeError before it ran."""
        if self.fitted is None:
            raise RuntimeError("no direction yet; call fit(images) first")
        return self.fitted

    def written(self, neurons) -> Tensor:
        """g: what each of some neurons writes through each later head at s = 1, [n, K, E]."""
        values = self.values[:, neurons]
        return torch.einsum("knd,krdE->nkrE", values, self.read_out.unflatten(0, (-1, self.n_read))).flatten(1, 2)

    @property
    def wide(self) -> bool:
        """Whether the later heads span the joint space, so that coordinates in a neuron's own span save nothing."""
        return len(self.read_out) > self.clip.d_embed

    def chunks(self) -> list[slice]:
        """All neurons in portions of CHUNK."""
        n = self.values.shape[1]
        return [slice(start, min(start + CHUNK, n)) for start in range(0, n, CHUNK)]

    @cached_property
    def factor(self) -> Tensor:
        """R [M, min(K, E), K] with |s g_n| = |R_n s|: a neuron's effect in coordinates of its own span."""
        return torch.cat([torch.linalg.qr(self.written(chunk).mT, mode="r").R for chunk in self.chunks()])

    @cached_property
    def residues(self) -> Tensor:
        """What the image's `shares` write into the residue of ln="split", [2K+3, E]; [0, E] with "centered"."""
        clip, n_heads = self.clip, self.clip.n_heads
        if self.ln == "centered":
            return self.read_out.new_zeros(0, clip.d_embed)
        norm, biases, ones, constants = final_norm(clip), [], [], []
        b_out, n = neuron_weights(clip, self.layer).b_out, clip.d_mlp
        matrix = norm.gamma[:, None] * norm.proj
        for after in range(self.layer + 1, clip.n_layers):
            gamma, beta = attention_norm(clip, after).weight, attention_norm(clip, after).bias
            weights, terms = attention_weights(clip, after), (1 + 2 * after) * n  # of the stream that this attention reads
            push = torch.einsum("hdD,hdE->hDE", weights.w_v, torch.einsum("Dhd,DE->hdE", weights.w_o, matrix))
            biases.append((gamma * b_out / n) @ push)
            ones.append(-(gamma / terms) @ push)
            value_bias = torch.einsum("hd,Dhd,DE->hE", weights.b_v, weights.w_o, matrix)
            constants.append((beta @ push + value_bias + weights.b_o / n_heads @ matrix).sum(0) / terms)
        last = sum(1 / ((1 + 2 * after) * n * (1 + 2 * clip.n_layers)) for after in range(self.layer + 1, clip.n_layers))
        rows = [torch.cat(biases), torch.cat(ones), sum(constants)[None]]
        return torch.cat([*rows, (-last * norm.gamma @ norm.proj)[None], (last * (norm.beta @ norm.proj + norm.bias))[None]])


@dataclass(frozen=True)
class Effects:
    """Second-order effects of all neurons of a layer on one batch, in factors; a view is built when asked for."""

    of: SecondOrder
    coefficients: Tensor  # s, [B, K, M]
    shares: Tensor  # of the image in the residue, [B, 2K+3] with ln="split", [B, 0] with "centered"

    @cached_property
    def residue(self) -> Tensor:
        """What the effects of all neurons on an image have in common, [B, E]; zero with ln="centered"."""
        return self.shares @ self.of.residues

    def less(self, mean: "Effects") -> "Effects":
        """The effects less those of a batch of one, say the mean."""
        return Effects(self.of, self.coefficients - mean.coefficients, self.shares - mean.shares)

    def vectors(self, neurons=None) -> Tensor:
        """[B, n, E], of some neurons or of all."""
        if neurons is None:
            return torch.cat([self.vectors(chunk) for chunk in self.of.chunks()], 1)
        written = torch.einsum("bkn,nkE->bnE", self.coefficients[:, :, neurons], self.of.written(neurons))
        return written + self.residue[:, None]

    def norms(self) -> Tensor:
        """Lengths of the effects, [B, M]."""
        if self.of.wide and self.of.ln == "centered":
            return torch.cat([self.vectors(chunk).norm(dim=-1) for chunk in self.of.chunks()], 1)
        own = torch.einsum("bkm,mjk->mbj", self.coefficients, self.of.factor).norm(dim=-1).T
        if self.of.ln == "centered":
            return own
        toward = torch.einsum("bkd,kmd->bkm", torch.einsum("kdE,bE->bkd", self.of.read_out, self.residue), self.of.values)
        across = (self.coefficients * toward).sum(1)
        return (own.square() + 2 * across + self.residue.square().sum(-1, keepdim=True)).clamp(min=0).sqrt()

    def summed(self, weights: Tensor | None = None) -> Tensor:
        """Sum over the neurons, [B, E], each times a weight [B, M] if given."""
        coefficients = self.coefficients if weights is None else self.coefficients * weights[:, None]
        count = self.coefficients.shape[2] if weights is None else weights.sum(1, keepdim=True)
        coefficients = coefficients.unflatten(1, (-1, self.of.n_read))
        values = torch.einsum("bhrm,hmd->bhrd", coefficients, self.of.values).flatten(1, 2)
        return torch.einsum("bkd,kdE->bE", values, self.of.read_out) + count * self.residue

    def along(self, lines: "Lines") -> Tensor:
        """Inner product of each neuron's effect with its own vector, [B, M]."""
        return torch.einsum("bkm,km->bm", self.coefficients, lines.match) + self.residue @ lines.vectors.T


class Lines:
    """A vector for each neuron [M, E], ready for `Effects.along`."""

    def __init__(self, order: SecondOrder, vectors: Tensor):
        self.vectors = vectors.to(order.values)
        read_out = order.read_out.unflatten(0, (-1, order.n_read))
        match = [(torch.einsum("rdE,mE->rmd", out, self.vectors) * values).sum(-1) for out, values in zip(read_out, order.values)]
        self.match = torch.cat(match)  # <g_km, vector_m>, [K, M]
