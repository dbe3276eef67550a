"""Chapter 2: what each attention head, layer and token writes into the image representation."""

from . import views  # noqa: F401, what a batch shows of heads
from .ablation import Accuracy, Answers, accuracy_under, answers_under
from .curves import ablation_curve
from .direct import DirectEffects, direct_effects, head_basis
from .lens import TunedLens, accumulated_resid, decompose_resid, fit_tuned_lens, logit_lens
from .maps import basis_maps, relative_maps, token_maps
from .naming import Rates, TopHits, agreement, factor_shares, heads_about, kind_shares, naming_table, roles, top_hits
from .parts import Ablation, ablate_attention, ablate_class_token, ablate_heads, ablate_mlps, ablations_of_tables
from .retrieval import head_features, neighbours, shared_by_neighbours, shared_factors
from .spurious import AUTHOR_HEADS, CueRow, compare_with_author, cue_row, draw_heads, late_heads_about, remove_cue
from .textspan import HeadMoments, TextSpan, head_moments, reconstruction_accuracy, textspan, top_images

__all__ = [
    "AUTHOR_HEADS", "Ablation", "Accuracy", "Answers", "CueRow", "DirectEffects", "HeadMoments", "Rates", "TextSpan", "TopHits",
    "TunedLens", "ablate_attention", "ablate_class_token", "ablate_heads", "ablate_mlps", "ablation_curve", "ablations_of_tables",
    "accumulated_resid", "accuracy_under", "agreement", "answers_under", "basis_maps", "compare_with_author", "cue_row",
    "decompose_resid", "direct_effects",
    "draw_heads", "factor_shares", "fit_tuned_lens", "head_basis", "head_features", "head_moments", "heads_about", "kind_shares",
    "late_heads_about", "logit_lens", "naming_table", "neighbours", "reconstruction_accuracy", "relative_maps", "remove_cue",
    "roles", "shared_by_neighbours", "shared_factors", "textspan", "token_maps", "top_hits", "top_images",
]  # fmt: skip
