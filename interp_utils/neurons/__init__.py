"""Chapter 3: what each neuron writes into the image representation through later attention."""

from .ablation import KINDS, AblationCurves, Indirect, ablation_curves, indirect_ablation, text_ablation
from .adversarial import (
    Attack,
    Success,
    attack,
    class_direction,
    drawable,
    drop_synonyms,
    most_fooling,
    sandbox_painter,
    similar_words,
    spurious_words,
    success,
    template_writer,
)
from .concepts import Concepts, contribution_scores, discover_concepts, important_neurons
from .generate import chat, class_writer, image_model, language_model, sentence_encoder
from .indirect import IndirectRankOne, encode_without, first_order, fit_indirect, indirect_effects, token_means
from .judges import object_detector, sandbox_judge
from .maps import activation_maps, segmenter
from .polysemy import Drives, NamingScore, drives, named_facts, naming_interval, naming_score, shares_true, with_hypernyms
from .rank_one import RankOne, Spread, first_direction, fit, spread
from .second_order import Effects, Lines, SecondOrder, curve_layers, late_layers, second_order
from .sparse import SparseTexts, omp, sparse_texts, text_atoms

__all__ = [
    "AblationCurves", "Attack", "Concepts", "Drives", "Effects", "Indirect", "IndirectRankOne", "KINDS", "Lines", "NamingScore",
    "RankOne", "SecondOrder", "SparseTexts", "Spread", "Success", "ablation_curves", "activation_maps", "attack",
    "chat", "class_direction", "class_writer", "contribution_scores", "curve_layers", "discover_concepts", "drawable", "drives",
    "drop_synonyms", "encode_without", "first_direction", "first_order", "fit", "fit_indirect", "image_model",
    "important_neurons", "indirect_ablation", "indirect_effects", "language_model", "late_layers", "most_fooling", "named_facts",
    "naming_interval", "naming_score", "object_detector", "omp", "sandbox_judge", "sandbox_painter", "second_order", "segmenter",
    "sentence_encoder", "shares_true", "similar_words", "sparse_texts", "spread", "spurious_words", "success", "template_writer",
    "text_ablation", "text_atoms", "token_means", "with_hypernyms",
]  # fmt: skip
