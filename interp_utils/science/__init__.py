"""Chapter 5: from describing units to a science of them: hypotheses that are tested, circuits that are cut out."""

from .circuits import (
    Faithfulness,
    NodeMeans,
    Task,
    effect_scores,
    faithfulness,
    masked,
    n_nodes,
    node_means,
    node_name,
    patching_scores,
    prune,
    run_circuits,
    top_masks,
)
from .hypotheses import (
    Finding,
    Trial,
    Units,
    effects,
    head_units,
    holm,
    investigate,
    measure,
    neuron_units,
    painted_pairs,
    paired_statistics,
    retrieved_pairs,
    spread,
)
from .truth import FACTS, claimed_facts, fact_differences, precision_recall

__all__ = [
    "FACTS", "Faithfulness", "Finding", "NodeMeans", "Task", "Trial", "Units", "claimed_facts", "effect_scores", "effects",
    "fact_differences", "faithfulness", "head_units", "holm", "investigate", "masked", "measure", "n_nodes", "neuron_units",
    "node_means", "node_name", "painted_pairs", "paired_statistics", "patching_scores", "precision_recall", "prune",
    "retrieved_pairs", "run_circuits", "spread", "top_masks",
]  # fmt: skip
