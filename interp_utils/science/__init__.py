"""Chapter 5: hypotheses, circuits, and what the thesis left open."""

from .aligned import RidgeMap, align, alignment_r2, from_timm, mean_pooled_effects, ridge_map
from .attention_effects import AttentionEffects, attention_effects
from .pairs import attributions, interaction_row, pair_interaction
from .registers import plant_outliers, register_neurons, register_token, token_norms
from .weights import weight_moments

__all__ = [
    "AttentionEffects", "RidgeMap", "align", "alignment_r2", "attention_effects", "attributions", "from_timm", "interaction_row",
    "mean_pooled_effects", "pair_interaction", "plant_outliers", "register_neurons", "register_token", "ridge_map", "token_norms",
    "weight_moments",
]  # fmt: skip
