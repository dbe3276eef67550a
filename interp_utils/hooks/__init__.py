"""Recording and replacing what runs inside an untouched model, in terms of its tower's description."""

from .base import (
    attention_input,
    attention_norm,
    attention_weights,
    close,
    compute_dtype,
    final_norm,
    forward_hooks,
    neuron_weights,
    project,
    read,
    visit,
)
from .heads import (
    Stream,
    class_written,
    edited_blocks,
    head_outputs,
    mixed_values,
    record,
    visit_attention_inputs,
)
from .neurons import (
    NeuronFlow,
    edited_neurons,
    neurons_recorded,
    record_neurons,
    run_from,
    stream_after,
    streams_before,
    visit_neurons,
)
from .tracing import AttentionTrace, BlockTrace, EmbeddingTrace, trace, trace_attention, trace_block, trace_embedding, trace_streams

__all__ = [
    "AttentionTrace", "BlockTrace", "EmbeddingTrace", "NeuronFlow", "Stream", "attention_input", "attention_norm",
    "attention_weights", "class_written", "close", "compute_dtype", "edited_blocks", "edited_neurons", "final_norm",
    "forward_hooks", "head_outputs", "mixed_values", "neuron_weights", "neurons_recorded", "project", "read", "record",
    "record_neurons", "run_from", "stream_after", "streams_before", "trace", "trace_attention", "trace_block", "trace_embedding",
    "trace_streams", "visit", "visit_attention_inputs", "visit_neurons",
]  # fmt: skip
