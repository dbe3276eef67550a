"""Recording and replacing what runs inside an untouched model. Nothing else in the package knows a layer's attribute name."""

from .base import FinalNorm, close, compute_dtype, final_norm, forward_hooks, project, visit
from .heads import (
    Heads,
    Stream,
    attended,
    attention_weights,
    class_attention,
    class_written,
    edited_blocks,
    head_outputs,
    mixed_values,
    record,
    visit_attention_inputs,
)
from .neurons import (
    NeuronFlow,
    Neurons,
    attention_norm,
    edited_neurons,
    neuron_weights,
    neurons_recorded,
    record_neurons,
    run_from,
    stream_after,
    streams_before,
    visit_neurons,
)
from .tracing import BlockTrace, EmbeddingTrace, trace, trace_block, trace_embedding

__all__ = [
    "BlockTrace", "EmbeddingTrace", "FinalNorm", "Heads", "NeuronFlow", "Neurons", "Stream", "attended", "attention_norm",
    "attention_weights", "class_attention", "class_written", "close", "compute_dtype", "edited_blocks", "edited_neurons",
    "final_norm", "forward_hooks", "head_outputs", "mixed_values", "neuron_weights", "neurons_recorded", "project", "record",
    "record_neurons", "run_from", "stream_after", "streams_before", "trace", "trace_block", "trace_embedding", "visit",
    "visit_attention_inputs", "visit_neurons",
]  # fmt: skip
