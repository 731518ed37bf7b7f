from __future__ import annotations

from edge_encoder.architectures import LR_SIZES, encoder_config
from edge_encoder.lowering import lower
from edge_encoder.twin import EncoderTwin
from export.encoder.graph import EncoderGraph, exact_graph
from export.encoder.tflite_emitter import tflite_bytes


def test_the_largest_encoder_for_1024_is_a_tflite_file_of_at_most_1_5_mb() -> None:
    graphs = [exact_graph(lower(EncoderTwin(encoder_config(1024, lr)))) for lr in LR_SIZES]
    assert len(tflite_bytes(max(graphs, key=EncoderGraph.parameters))) <= 1_500_000
