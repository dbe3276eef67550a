"""Parts of the image tower that are ablated together."""

from dataclasses import dataclass

from ..models import Clip


@dataclass(frozen=True)
class Ablation:
    """Parts of the image tower that lose what they say about the single image.

    heads: (layer, head) pairs; mlps: layers; embedding: the class token's, or that of all tokens that are read out together with
    what an MLP adds after pooling; class_token: layers whose attention of the class token to itself is ablated, all heads together
    (thesis, table A.1).
    """

    heads: frozenset[tuple[int, int]] = frozenset()
    mlps: frozenset[int] = frozenset()
    embedding: bool = False
    class_token: frozenset[int] = frozenset()

    def __or__(self, other: "Ablation") -> "Ablation":
        embedding, own = self.embedding or other.embedding, self.class_token | other.class_token
        return Ablation(self.heads | other.heads, self.mlps | other.mlps, embedding, own)


def ablate_heads(heads) -> Ablation:
    """Ablation of single heads, given as (layer, head) pairs."""
    return Ablation(heads=frozenset(tuple(head) for head in heads))


def ablate_attention(clip: Clip, layers) -> Ablation:
    """Ablation of all heads of some layers."""
    return ablate_heads((layer, head) for layer in layers for head in range(clip.n_heads))


def ablate_mlps(clip: Clip) -> Ablation:
    """Ablation of everything but attention: all MLPs and the embedding."""
    return Ablation(mlps=frozenset(range(clip.n_layers)), embedding=True)


def ablate_class_token(clip: Clip) -> Ablation:
    """Ablation of the class token's attention to itself in all layers."""
    return Ablation(class_token=frozenset(range(clip.n_layers)))


def ablations_of_tables(clip: Clip) -> dict[str, Ablation]:
    """The parts that the thesis ablates in tables 2.1 and A.1 and figure 2.2, and controls, by name.

    "nothing", all MLPs, the class token's own (where the model has one), attention but for the last layers, the last ones, each of
    the last four alone, and the first k attention layers for each k.
    """
    n, found = clip.n_layers, {"nothing": Ablation(), "MLPs": ablate_mlps(clip)}
    if clip.tower.final is not None:
        own = ablate_class_token(clip)
        found |= {"class token": own, "class token and MLPs": own | found["MLPs"]}
    late = ablate_attention(clip, range(max(n - 4, 0), n))
    found["attention but for the last four layers"] = ablate_attention(clip, range(n - 4))
    found["last four attention layers"] = late
    found["last five attention layers"] = ablate_attention(clip, range(max(n - 5, 0), n))
    found["last four attention layers, and their MLPs"] = late | Ablation(mlps=frozenset(range(max(n - 4, 0), n)))
    found |= {f"attention layer {k}": ablate_attention(clip, [k]) for k in range(max(n - 4, 0), n)}
    return found | {f"first {k} attention layers": ablate_attention(clip, range(k)) for k in range(1, n + 1)}
