"""Direct effects: the image representation as an exact sum over layers, heads and tokens (thesis, section 2.2)."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..hooks import attention_weights, close, compute_dtype, final_norm, record, visit_attention_inputs
from ..models import Clip
from ..towers import Attention, head_effects


def direct_effects(clip: Clip, pixels: Tensor, ln: str | None = None) -> "DirectEffects":
    """Split the representation of each image into what every component wrote (thesis eqs. 2.2 to 2.6).

    pixels: [B, 3, H, W], preprocessed. ln: how the last layer norm, frozen at each image's own mean and standard deviation,
    is shared among the terms. "centered" subtracts from each term its own mean over the residual width, as
    TransformerLens does (*direct logit attribution*); "split" gives each term an equal share of the stream's mean and of
    the bias, as the thesis's published numbers do. Both sum to the representation exactly. "split" needs a class token. By default
    as the Clip says.
    Where many tokens are read out (docs/models.md), a head's effect is what all of them take of it, with the read-out's weights.
    Raises ValueError for another `ln` and for pixels that the model cannot take, RuntimeError where the parts do not add up.
    """
    return DirectEffects(clip, pixels, ln)


def head_basis(clip: Clip, layers: list[int] | None = None, ln: str | None = None) -> Tensor | None:
    """What each coordinate of each head writes in the joint space, the same for all images: [L, H, d+J, E].

    The coordinates are those of `DirectEffects.head_coordinates`: a head's outputs lie in a space hardly wider than the head.
    J is 1, 2 where a norm comes after the attention, and 3 with ln="split". None where several read-outs make that space as
    wide as the joint space: there the coordinates are the effects themselves.
    """
    ln, bases = clip.checked_ln(ln), []
    matrix = read_out_matrix(clip, ln)
    if len(matrix) > clip.d_model:
        return None
    for layer in range(clip.n_layers) if layers is None else layers:
        w, biases = attention_weights(clip, layer).linear()
        rows = [torch.einsum("Dhd,DE->hdE", w, matrix), (biases / clip.n_heads @ matrix).expand(clip.n_heads, -1, -1)]
        if ln == "split":
            norm = final_norm(clip)
            share = torch.stack([-norm.gamma @ norm.proj, norm.beta @ norm.proj + norm.bias])
            rows.append((share / ((2 * clip.n_layers + 1) * clip.n_heads)).expand(clip.n_heads, -1, -1))
        bases.append(torch.cat(rows, 1))
    return torch.stack(bases)


def read_out_matrix(clip: Clip, ln: str | None = None) -> Tensor:
    """How what is read out goes into the joint space, [D, E]: the last norm without its scale, and the projection.

    Where there are K read-outs, their matrices follow each other, [K D, E].
    """
    if clip.checked_ln(ln) == "split":
        norm = final_norm(clip)
        return norm.gamma[:, None] * norm.proj
    n = 1 if clip.tower.final is not None else clip.n_prefix + clip.grid[0] * clip.grid[1]
    nothing = torch.zeros(1, n, clip.d_model, dtype=compute_dtype(clip), device=clip.device)
    return clip.tower.read_out(nothing).matrix.flatten(0, 1)


class DirectEffects:
    """Direct effects of one batch. Holds small factors; a view is built when asked for.

    Terms are ordered as in the residual stream: embedding, attention 0, MLP 0, attention 1, ..., and last what an MLP adds to a
    pooled vector, where a tower has one (`labels`). With ln="centered" the embedding term includes the constant of the read-out.
    The output bias of an attention layer is shared equally by its heads, and within a head by the tokens. Token views run the
    image tower once more, so that token activations of several layers never exist together. The pixels are kept, and a view that
    no longer adds up to what was recorded raises RuntimeError: then the model was edited, trained or put in another mode.
    basis: a function that gives the `head_basis` of all layers, where a pass over many batches keeps it.
    """

    def __init__(self, clip: Clip, pixels: Tensor, ln: str | None = None, basis: Callable[[], Tensor | None] | None = None):
        self._basis = basis
        self.clip, self.pixels, self.ln = clip, clip.pixels(pixels).detach().clone(), clip.checked_ln(ln)
        self.stream = record(clip, self.pixels)
        self._several = self.stream.rows.shape[2] > 1  # read-outs
        self.labels = ["embedding", *(f"{kind}{layer}" for layer in range(clip.n_layers) for kind in ("attention", "mlp"))]
        if self.stream.read_out.pool_mlp is not None:
            self.labels.append("pool MLP")
        self.n_terms = len(self.labels)
        if self.ln == "centered":
            self._matrix, self._embed_constant = self.stream.read_out.matrix.flatten(0, 1), self.stream.read_out.constant
            self._shared = torch.zeros_like(self._embed_constant)  # what each of the terms gets, [B, E]
        else:
            norm, mean = final_norm(clip), self.stream.final.mean(-1, keepdim=True)
            self._matrix, self._embed_constant = read_out_matrix(clip, self.ln), torch.zeros_like(self.stream.read_out.constant)
            constant = norm.beta @ norm.proj + norm.bias
            self._shared = (constant - mean * self.stream.scale * (norm.gamma @ norm.proj)) / self.n_terms

    def __repr__(self) -> str:
        return f"DirectEffects({len(self.pixels)} images, {self.n_terms} terms of width {self.clip.d_embed}, ln={self.ln!r})"

    @property
    def attention(self) -> Tensor:
        """Where each head looks on behalf of what is read out, [B, L, H, N]: the class token's attention, if it alone is read."""
        return self.stream.attention

    def layers(self) -> Tensor:
        """Effect of each term, [B, 2L+1, E] (one more with an MLP after pooling), in the order of `labels`."""
        attention = self._joint(self.stream.attentions) + self._shared[:, None]
        terms = [self.embedding()[:, None], torch.stack([attention, self.mlps()], 2).flatten(1, 2)]
        return torch.cat([*terms, self.pool_mlp()[:, None]] if self.labels[-1] == "pool MLP" else terms, 1)

    def heads(self, layers: list[int] | None = None) -> Tensor:
        """Effect of each head, [B, L, H, E], or of the heads of some layers."""
        basis = self.head_basis(layers)
        chosen = slice(None) if layers is None else layers
        effects = self._heads(chosen) if basis is None else torch.einsum("blhk,lhkE->blhE", self.head_coordinates(layers), basis)
        self._check(effects.sum(2), self._joint(self.stream.attentions[:, chosen]) + self._shared[:, None])
        return effects

    def _heads(self, chosen: slice | list[int]) -> Tensor:
        """Effects of heads [B, L, H, E] through several read-outs."""
        found, matrix = [], self.stream.read_out.matrix
        for layer in list(range(self.clip.n_layers))[chosen] if isinstance(chosen, slice) else chosen:
            weights = attention_weights(self.clip, layer)
            bias = self._biases(layer, weights)[:, None]
            found.append(head_effects(weights, self.stream.values[:, layer], matrix) + bias / self.clip.n_heads)
        return torch.stack(found, 1)

    def head_coordinates(self, layers: list[int] | None = None) -> Tensor:
        """Coordinates of the heads' effects in `head_basis`, [B, L, H, d+J]: all that an image decides.

        Where `head_basis` is None these are the effects themselves, [B, L, H, E].
        """
        chosen = slice(None) if layers is None else layers
        if self._several:
            return self.heads(layers)
        values, shares = self.stream.values[:, chosen, 0], self.stream.shares[:, chosen]
        scale = torch.as_tensor(self.stream.scale).to(values).reshape(-1, 1, 1, 1)
        own = [shares * scale]
        if self.ln == "split":
            mean = self.stream.final.mean(-1)[:, None, None, None]
            own += [mean * scale, torch.ones_like(mean)]
        own = [part.expand(*values.shape[:3], -1) for part in own]
        return torch.cat([values * scale, *own], -1)

    def head_basis(self, layers: list[int] | None = None) -> Tensor | None:
        """What each coordinate of each head writes in the joint space, [L, H, d+J, E], see `head_basis`."""
        if self._basis is None:
            return head_basis(self.clip, layers, self.ln)
        whole = self._basis()
        return whole if whole is None or layers is None else whole[layers]

    def mlps(self) -> Tensor:
        """Effect of each MLP, [B, L, E]."""
        return self._joint(self.stream.mlps) + self._shared[:, None]

    def embedding(self) -> Tensor:
        """Effect of the embedding, [B, E], a class token's or all tokens'; with ln="centered" the read-out's constant is here."""
        return self._joint(self.stream.embed) + self._embed_constant + self._shared

    def pool_mlp(self) -> Tensor:
        """What an MLP adds to the pooled vector, [B, E]; zeros where a tower has none."""
        added = self.stream.read_out.pool_mlp
        return torch.zeros_like(self._shared) if added is None else added

    def class_token(self) -> Tensor:
        """Effect of the class token's attention to itself in each layer, all heads together, [B, L, E] (thesis table A.1).

        Raises NotImplementedError for a tower that is not read out at a class token alone.
        """
        if self.stream.class_token is None:
            family = self.clip.tower.family
            raise NotImplementedError(f"{self.clip.name} ({family}) is not read out at a class token, which could look at itself")
        return self._joint(self.stream.class_token) + self._shared[:, None] / self.stream.rows.shape[-1]

    def tokens(self) -> Tensor:
        """Effect of each token through all heads of all layers, [B, N, E]; the first `clip.n_prefix` are no patches."""
        written, constant = 0, 0

        def visit(layer, x, weights):
            nonlocal written, constant
            values, w = torch.einsum("bnD,hdD->bnhd", x, weights.w_v) + weights.b_v, weights.linear()[0]
            for k, rows in enumerate(self.stream.rows[:, layer].unbind(1)):  # read-out by read-out: [B, N, D] at most
                sent = torch.einsum("bnhd,Dhd->bnD", values * rows.permute(0, 2, 1)[..., None], w)
                written = written + (sent @ self.stream.read_out.matrix[k] if self._several else sent)
            constant = constant + self._biases(layer, weights) / x.shape[1]

        self._visit(visit)
        effects = written if self._several else self._joint(written)
        return effects + (constant + self.clip.n_layers * self._shared / effects.shape[1])[:, None]

    def head_tokens(self, layer: int, head: int) -> Tensor:
        """Effect of each token through one head, [B, N, E]; sums over tokens to `heads()[:, layer, head]`."""
        layer, head = self._index(layer, head)
        effects = []

        def visit(_, x, weights):
            value, w = x @ weights.w_v[head].T + weights.b_v[head], weights.linear()[0][:, head]
            rows = self.stream.rows[:, layer, :, head]  # [B, K, N]
            through = torch.einsum("Dd,kDE->kdE", w, self._matrix.unflatten(0, (rows.shape[1], -1)))
            written = torch.einsum("bkn,bnd,kdE->bnE", rows, value, through) * self._scale(2)
            share = (self._biases(layer, weights) + self._shared) / (self.clip.n_heads * x.shape[1])
            effects.append(written + share[:, None])

        self._visit(visit, [layer])
        return effects[0]

    def total(self) -> Tensor:
        """Sum of all terms, [B, E]: equals `clip.encode_image(pixels)`."""
        return self.layers().sum(1)

    def scores(self, text_features: Tensor, over: str = "head") -> Tensor:
        """Inner products of effects with texts, contracted before the effects are built.

        text_features: [T, E]. over: "layer" -> [B, 2L+1, T], "head" -> [B, L, H, T], "token" -> [B, N, T],
        "head_token" -> [B, L, H, N, T]. Raises ValueError for another `over`, and what `Clip.vectors` raises.
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

    def head_token_scores(self, wanted: dict[tuple[int, int], Tensor]) -> dict[tuple[int, int], Tensor]:
        """Scores of each token through some heads, each for vectors of its own: {(layer, head): [m, E]} -> [B, N, m].

        The same as `head_tokens` times the vectors, in one more run of the image tower for all. Raises what `scores` does.
        """
        vectors = {self._index(*head): self.clip.vectors(texts).to(self._matrix) for head, texts in wanted.items()}
        n_read, scores = self.stream.rows.shape[2], {}

        def visit(layer, x, weights):
            w, biases = weights.linear()[0], (self._biases(layer, weights) + self._shared) / (self.clip.n_heads * x.shape[1])
            for head, texts in ((key[1], texts) for key, texts in vectors.items() if key[0] == layer):
                probe = torch.einsum("Dd,kDm->kdm", w[:, head], (self._matrix @ texts.T).unflatten(0, (n_read, -1)))
                value, rows = x @ weights.w_v[head].T + weights.b_v[head], self.stream.rows[:, layer, :, head]  # [B, K, N]
                written = torch.einsum("bkn,bnd,kdm->bnm", rows, value, probe) * self._scale(2)
                scores[layer, head] = written + (biases @ texts.T)[:, None]

        self._visit(visit, sorted({layer for layer, _ in vectors}))
        return scores

    def _token_scores(self, text: Tensor) -> list[Tensor]:
        """Scores of each token through each head, [B, H, N, T] for each layer."""
        n_read = self.stream.rows.shape[2]
        scores, read_out = [], (self._matrix @ text.T).unflatten(0, (n_read, -1))  # [K, D, T]

        def visit(layer, x, weights):
            w, n = weights.linear()[0], x.shape[1]
            share = ((self._biases(layer, weights) + self._shared) @ text.T / (self.clip.n_heads * n))[:, None, None]
            for k in range(n_read):
                wanted = torch.einsum("Dhd,Dt->htd", w, read_out[k])  # what each head must carry to please each text
                probe = torch.einsum("htd,hdD->htD", wanted, weights.w_v)
                offset = torch.einsum("htd,hd->ht", wanted, weights.b_v)
                match = torch.einsum("bnD,htD->bhnt", x, probe) + offset[:, None]
                share = share + self.stream.rows[:, layer, k, :, :, None] * self._scale(3) * match
            scores.append(share)

        self._visit(visit)
        return scores

    def _visit(self, visitor, layers: list[int] | None = None) -> None:
        """Run the image tower again: visitor(layer, x, weights) gets the attention's input, once known to be what it was."""

        def checked(layer, x):
            weights, rows = attention_weights(self.clip, layer), self.stream.rows[:, layer]
            as_many = x.shape[1] == rows.shape[-1]
            sent = as_many and weights.sent(weights.carried(x, rows), self.stream.shares[:, layer]).flatten(1)
            self._check(sent, self.stream.attentions[:, layer])
            visitor(layer, x, weights)

        visit_attention_inputs(self.clip, self.pixels, checked, layers)

    def _check(self, found: Tensor | bool, recorded: Tensor) -> None:
        if found is False or not close(found, recorded, recorded.dtype):
            raise RuntimeError(
                "the model is not as it was when these direct effects were made, so they no longer add up: read them under the "
                "same edits and with the same weights, or make them again"
            )

    def _scale(self, axes: int) -> Tensor | float:
        """The stream's `scale` with so many axes after the images'."""
        scale = self.stream.scale
        return scale.reshape(-1, *[1] * axes) if isinstance(scale, Tensor) else scale

    def _joint(self, written: Tensor) -> Tensor:
        """What was written to what is read out, [B, ..., D], through the frozen read-out."""
        self.clip.refuse_autocast()
        return written @ self._matrix * self._scale(written.ndim - 1)

    def _biases(self, layer: int, weights: Attention) -> Tensor:
        """Effect of the biases of an attention layer, [B, E]."""
        return self._joint((self.stream.shares[:, layer] @ weights.linear()[1]).flatten(1))

    def _index(self, layer: int, head: int) -> tuple[int, int]:
        if not (0 <= layer < self.clip.n_layers and 0 <= head < self.clip.n_heads):
            raise IndexError(f"no head L{layer}H{head}: the model has {self.clip.n_layers} layers of {self.clip.n_heads} heads")
        return layer, head
