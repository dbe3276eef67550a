"""Direct effects: the image representation as an exact sum over layers, heads and tokens (thesis, section 2.2)."""

import torch
from torch import Tensor

from ..hooks import attended, attention_weights, close, final_norm, record, visit_attention_inputs
from ..models import Clip


def direct_effects(clip: Clip, pixels: Tensor, ln: str = "centered") -> "DirectEffects":
    """Split the representation of each image into what every component wrote (thesis eqs. 2.2 to 2.6).

    pixels: [B, 3, H, W], preprocessed. ln: how the last layer norm, frozen at each image's own mean and standard deviation,
    is shared among the terms. "centered" subtracts from each term its own mean over the residual width, as
    TransformerLens does (*direct logit attribution*); "split" gives each term an equal share of the stream's mean and of
    the bias, as the thesis's published numbers do. Both sum to the representation exactly.
    Raises ValueError for another `ln` and for pixels that the model cannot take, RuntimeError where the parts do not add up.
    """
    return DirectEffects(clip, pixels, ln)


def head_basis(clip: Clip, layers: list[int] | None = None, ln: str = "centered") -> Tensor:
    """What each coordinate of each head writes in the joint space, the same for all images: [L, H, d+1, E] (d+3 with "split").

    The coordinates are those of `DirectEffects.head_coordinates`: a head's outputs lie in a space hardly wider than the head.
    """
    norm, matrix, bases = final_norm(clip), read_out_matrix(clip, ln), []
    for layer in range(clip.n_layers) if layers is None else layers:
        weights = attention_weights(clip, layer)
        rows = [
            torch.einsum("Dhd,DE->hdE", weights.w_o, matrix),
            (weights.b_o / clip.n_heads @ matrix).expand(clip.n_heads, 1, -1),
        ]
        if ln == "split":
            share = torch.stack([-norm.gamma @ norm.proj, norm.beta @ norm.proj]) / ((2 * clip.n_layers + 1) * clip.n_heads)
            rows.append(share.expand(clip.n_heads, -1, -1))
        bases.append(torch.cat(rows, 1))
    return torch.stack(bases)


def checked_ln(ln: str) -> str:
    """The layer-norm convention. Raises ValueError for one that there is not."""
    if ln not in ("centered", "split"):
        raise ValueError(f"ln must be 'centered' or 'split', got {ln!r}")
    return ln


def read_out_matrix(clip: Clip, ln: str) -> Tensor:
    """The last layer norm without its scale, and the projection, as one matrix [D, E]."""
    norm = final_norm(clip)
    matrix = norm.gamma[:, None] * norm.proj
    return matrix - matrix.mean(0) if ln == "centered" else matrix


class DirectEffects:
    """Direct effects of one batch. Holds small factors; a view is built when asked for.

    Terms are ordered as in the residual stream: embedding, attention 0, MLP 0, attention 1, ... (`labels`). With
    ln="centered" the embedding term includes the constant of the last layer norm. The output bias of an attention layer is
    shared equally by its heads, and within a head by the tokens. Token views run the image tower once more, so that token
    activations of several layers never exist together. The pixels are kept, and a view that no longer adds up to what was
    recorded raises RuntimeError: then the model was edited, trained or put in another mode in between.
    """

    def __init__(self, clip: Clip, pixels: Tensor, ln: str = "centered"):
        self.clip, self.pixels, self.ln = clip, clip.pixels(pixels).detach().clone(), checked_ln(ln)
        self.stream = record(clip, self.pixels)
        self.n_terms = 2 * clip.n_layers + 1
        self.labels = ["embedding", *(f"{kind}{layer}" for layer in range(clip.n_layers) for kind in ("attention", "mlp"))]
        norm, final = final_norm(clip), self.stream.final
        mean, variance = final.mean(-1, keepdim=True), final.var(-1, correction=0, keepdim=True)
        self._std = (variance + norm.eps).sqrt()  # [B, 1]
        self._matrix = read_out_matrix(clip, ln)
        constant = norm.beta @ norm.proj
        if ln == "centered":
            self._embed_constant, self._shared = constant, torch.zeros_like(constant).expand(len(final), -1)
        else:
            share = (constant - mean / self._std * (norm.gamma @ norm.proj)) / self.n_terms
            self._embed_constant, self._shared = torch.zeros_like(constant), share  # what each of the terms gets, [B, E]

    def __repr__(self) -> str:
        return f"DirectEffects({len(self.pixels)} images, {self.n_terms} terms of width {self.clip.d_embed}, ln={self.ln!r})"

    @property
    def attention(self) -> Tensor:
        """Attention of the class token to each token, [B, L, H, N+1]."""
        return self.stream.attention

    def layers(self) -> Tensor:
        """Effect of each term of the residual stream, [B, 2L+1, E], in the order of `labels`."""
        attention = self._joint(self.stream.attentions) + self._shared[:, None]
        return torch.cat([self.embedding()[:, None], torch.stack([attention, self.mlps()], 2).flatten(1, 2)], 1)

    def heads(self, layers: list[int] | None = None) -> Tensor:
        """Effect of each head, [B, L, H, E], or of the heads of some layers."""
        effects = torch.einsum("blhk,lhkE->blhE", self.head_coordinates(layers), self.head_basis(layers))
        recorded = self.stream.attentions if layers is None else self.stream.attentions[:, layers]
        self._check(effects.sum(2), self._joint(recorded) + self._shared[:, None])
        return effects

    def head_coordinates(self, layers: list[int] | None = None) -> Tensor:
        """Coordinates of the heads' effects in `head_basis`, [B, L, H, d+1] (d+3 with ln="split"): all that an image decides."""
        values = self.stream.values if layers is None else self.stream.values[:, layers]
        mean = self.stream.final.mean(-1, keepdim=True)
        own = [1 / self._std] if self.ln == "centered" else [1 / self._std, mean / self._std, torch.ones_like(mean)]
        own = torch.cat(own, -1)[:, None, None].expand(-1, *values.shape[1:3], -1)
        return torch.cat([values / self._std[:, None, None], own], -1)

    def head_basis(self, layers: list[int] | None = None) -> Tensor:
        """What each coordinate of each head writes in the joint space, [L, H, d+1, E] (d+3 with ln="split")."""
        return head_basis(self.clip, layers, self.ln)

    def mlps(self) -> Tensor:
        """Effect of each MLP, [B, L, E]."""
        return self._joint(self.stream.mlps) + self._shared[:, None]

    def embedding(self) -> Tensor:
        """Effect of the class token's embedding, [B, E]; with ln="centered" the constant of the last layer norm is here."""
        return self._joint(self.stream.embed) + self._embed_constant + self._shared

    def class_token(self) -> Tensor:
        """Effect of the class token's attention to itself in each layer, all heads together, [B, L, E] (thesis table A.1)."""
        return self._joint(self.stream.class_token) + self._shared[:, None] / self.stream.attention.shape[-1]

    def tokens(self) -> Tensor:
        """Effect of each token through all heads of all layers, [B, N+1, E]; token 0 is the class token."""
        written, constant = 0, 0

        def visit(layer, x, weights):
            nonlocal written, constant
            values = torch.einsum("bnD,hdD->bnhd", x, weights.w_v) + weights.b_v
            values *= self.stream.attention[:, layer].permute(0, 2, 1)[..., None]
            written = written + torch.einsum("bnhd,Dhd->bnD", values, weights.w_o)
            constant = constant + weights.b_o / x.shape[1]

        self._visit(visit)
        share = self.clip.n_layers * self._shared / written.shape[1]
        return self._joint(written + constant) + share[:, None]

    def head_tokens(self, layer: int, head: int) -> Tensor:
        """Effect of each token through one head, [B, N+1, E]; sums over tokens to `heads()[:, layer, head]`."""
        layer, head = self._index(layer, head)
        effects = []

        def visit(_, x, weights):
            values = self.stream.attention[:, layer, head, :, None] * (x @ weights.w_v[head].T + weights.b_v[head])
            written = values @ weights.w_o[:, head].T + weights.b_o / (self.clip.n_heads * x.shape[1])
            effects.append(self._joint(written) + self._shared[:, None] / (self.clip.n_heads * x.shape[1]))

        self._visit(visit, [layer])
        return effects[0]

    def total(self) -> Tensor:
        """Sum of all terms, [B, E]: equals `clip.encode_image(pixels)`."""
        return self.layers().sum(1)

    def scores(self, text_features: Tensor, over: str = "head") -> Tensor:
        """Inner products of effects with texts, contracted before the effects are built.

        text_features: [T, E]. over: "layer" -> [B, 2L+1, T], "head" -> [B, L, H, T], "token" -> [B, N+1, T],
        "head_token" -> [B, L, H, N+1, T]. Raises ValueError for another `over`, and what `Clip.vectors` raises.
        """
        text = self.clip.vectors(text_features).to(self._matrix)
        if over == "layer":
            return self.layers() @ text.T
        if over == "head":
            return self.heads() @ text.T
        if over == "token":
            return sum(layer.sum(1) for layer in self._token_scores(text))
        if over == "head_token":
            return torch.stack(self._token_scores(text), 1)
        raise ValueError(f"over must be 'layer', 'head', 'token' or 'head_token', got {over!r}")

    def _token_scores(self, text: Tensor) -> list[Tensor]:
        """Scores of each token through each head, [B, H, N+1, T] for each layer."""
        scores, read_out = [], self._matrix @ text.T  # [D, T]

        def visit(layer, x, weights):
            wanted = torch.einsum("Dhd,Dt->htd", weights.w_o, read_out)  # what each head must carry to please each text
            probe = torch.einsum("htd,hdD->htD", wanted, weights.w_v)
            offset = torch.einsum("htd,hd->ht", wanted, weights.b_v)
            match = torch.einsum("bnD,htD->bhnt", x, probe) + offset[:, None]
            share = (weights.b_o @ read_out / self._std + self._shared @ text.T) / (self.clip.n_heads * x.shape[1])
            pattern = self.stream.attention[:, layer, :, :, None] / self._std[:, :, None, None]
            scores.append(pattern * match + share[:, None, None])

        self._visit(visit)
        return scores

    def _visit(self, visitor, layers: list[int] | None = None) -> None:
        """Run the image tower again: visitor(layer, x, weights) gets the attention's input, once known to be what it was."""

        def checked(layer, x):
            weights, pattern = attention_weights(self.clip, layer), self.stream.attention[:, layer]
            as_many = x.shape[1] == pattern.shape[2]
            self._check(as_many and attended(x, weights, pattern)[1], self.stream.attentions[:, layer])
            visitor(layer, x, weights)

        visit_attention_inputs(self.clip, self.pixels, checked, layers)

    def _check(self, found: Tensor | bool, recorded: Tensor) -> None:
        if found is False or not close(found, recorded, recorded.dtype):
            raise RuntimeError(
                "the model is not as it was when these direct effects were made, so they no longer add up: read them under the "
                "same edits and with the same weights, or make them again"
            )

    def _joint(self, written: Tensor) -> Tensor:
        """What was written to the residual stream, [B, D] or [B, K, D], through the frozen norm and the projection."""
        self.clip.refuse_autocast()
        return written @ self._matrix / (self._std if written.ndim == 2 else self._std[:, None])

    def _index(self, layer: int, head: int) -> tuple[int, int]:
        if not (0 <= layer < self.clip.n_layers and 0 <= head < self.clip.n_heads):
            raise IndexError(f"no head L{layer}H{head}: the model has {self.clip.n_layers} layers of {self.clip.n_heads} heads")
        return layer, head
