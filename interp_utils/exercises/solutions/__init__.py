"""One solution for each exercise, as it stands folded in the notebook: signature, what is what, answer. A file a notebook."""

from .beyond import explained_share, into_register, noise_moment, ridge_with_constant, written_by_heads
from .circuits import attribution, in_circuit, interaction, mediated_share, recovered_share
from .heads import frozen_effects, mean_iou, most_explaining_text, resample_ablation, without_direction, worst_group
from .hypotheses import auc, corrected_p, effect_in_spreads, precision_and_recall, sign_flip_p
from .neurons import along_direction, contribution, hold_still, neuron_direction, pursue, share_in_one_direction
from .opening import match_by_part, mean_ablate, patch_class_token, record_output, running_totals, zero_shot
from .rosetta import mutual_neighbours, pair_score, resizing_matrix, shifted_right, unit_correlation, without_position

__all__ = [
    "along_direction", "attribution", "auc", "contribution", "corrected_p", "effect_in_spreads", "explained_share",
    "frozen_effects", "hold_still", "in_circuit", "interaction", "into_register", "match_by_part", "mean_ablate", "mean_iou",
    "mediated_share", "most_explaining_text", "mutual_neighbours", "neuron_direction", "noise_moment", "pair_score",
    "patch_class_token", "precision_and_recall", "pursue", "record_output", "recovered_share", "resample_ablation",
    "resizing_matrix", "ridge_with_constant", "running_totals", "share_in_one_direction", "shifted_right", "sign_flip_p",
    "unit_correlation", "without_direction", "without_position", "worst_group", "written_by_heads", "zero_shot",
]  # fmt: skip
