"""Chapter 2: what each attention head, layer and token writes into the image representation."""

from .ablation import (
    Ablation,
    Accuracy,
    Answers,
    ablate_attention,
    ablate_class_token,
    ablate_heads,
    ablate_mlps,
    accuracy_under,
    answers_under,
)
from .direct import DirectEffects, direct_effects, head_basis
from .lens import TunedLens, accumulated_resid, decompose_resid, fit_tuned_lens, logit_lens
from .maps import basis_maps, relative_maps, token_maps
from .naming import agreement, factor_shares, heads_about, kind_shares
from .retrieval import head_features, neighbours, shared_factors
from .spurious import AUTHOR_HEADS, compare_with_author, draw_heads, remove_cue
from .textspan import HeadMoments, TextSpan, head_moments, reconstruction_accuracy, textspan, top_images

__all__ = [
    "AUTHOR_HEADS", "Ablation", "Accuracy", "Answers", "DirectEffects", "HeadMoments", "TextSpan", "TunedLens",
    "ablate_attention", "ablate_class_token", "ablate_heads", "ablate_mlps", "accumulated_resid", "accuracy_under", "agreement",
    "answers_under", "basis_maps", "compare_with_author", "decompose_resid", "direct_effects", "draw_heads", "factor_shares",
    "fit_tuned_lens", "head_basis", "head_features", "head_moments", "heads_about", "kind_shares", "logit_lens", "neighbours",
    "reconstruction_accuracy", "relative_maps", "remove_cue", "shared_factors", "textspan", "token_maps", "top_images",
]  # fmt: skip
