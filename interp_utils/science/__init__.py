"""Chapter 5: from describing units to a science of them: hypotheses that are tested, circuits that are cut out."""

from . import defence, seeds
from .aligned import RidgeMap, align, from_timm, ridge_map
from .attention_effects import AttentionEffects, attention_effects
from .benchmark import NameScore, saved_scores, score_names
from .circuits import (
    Faithfulness,
    NodeMeans,
    Task,
    effect_scores,
    faithfulness,
    n_nodes,
    node_means,
    node_name,
    patching_scores,
    prune,
    run_circuits,
    top_masks,
)
from .counted import saved_counts
from .hypotheses import (
    Finding,
    Trial,
    Units,
    activation_units,
    effects,
    head_units,
    investigate,
    measure,
    neuron_units,
    paired_statistics,
    spread,
    together,
)
from .methods import METHODS
from .named import facts_named, one_or_two_things, parts_named, phrases, single_things
from .pairs import attributions, interaction_row, pair_interaction
from .proposing import Entry, Evidence, Propose, from_language_model, from_lists, investigate_rounds
from .registers import plant_outliers, register_neurons, register_token, token_norms
from .scores import ClaimScore, score_claims
from .seen import Seen
from .tasks import photo_task, sandbox_task
from .truth import claimed_facts, fact_differences
from .twins import painted_pairs, retrieved_pairs
from .weights import weight_moments

__all__ = [
    "AttentionEffects", "ClaimScore", "Entry", "Evidence", "Faithfulness", "Finding", "METHODS", "NameScore", "NodeMeans",
    "Propose", "RidgeMap", "Seen", "Task", "Trial", "Units", "activation_units", "align",
    "attention_effects", "attributions", "claimed_facts", "defence", "effect_scores", "effects", "fact_differences", "facts_named",
    "faithfulness", "from_language_model", "from_lists", "from_timm", "head_units", "interaction_row", "investigate",
    "investigate_rounds", "measure", "n_nodes", "neuron_units", "node_means", "node_name", "one_or_two_things",
    "painted_pairs", "pair_interaction", "paired_statistics", "parts_named", "patching_scores", "photo_task", "phrases",
    "plant_outliers", "prune", "register_neurons", "register_token", "retrieved_pairs", "ridge_map", "run_circuits",
    "sandbox_task", "saved_counts", "saved_scores", "score_claims", "score_names", "seeds", "single_things", "spread",
    "together", "token_norms", "top_masks", "weight_moments",
]  # fmt: skip
