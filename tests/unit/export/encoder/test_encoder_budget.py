from __future__ import annotations

import pytest
import torch

from edge_encoder.architectures import HR_SIZES, LR_SIZES, encoder_config
from edge_encoder.lowering import lower
from edge_encoder.twin import EncoderTwin
from export.encoder.graph import EncoderGraph, exact_graph
from export.encoder.tflite_emitter import tflite_bytes


def _graph(hr: int, lr: int) -> EncoderGraph:
    torch.manual_seed(0)
    return exact_graph(lower(EncoderTwin(encoder_config(hr, lr))))


@pytest.mark.parametrize("lr", LR_SIZES)
@pytest.mark.parametrize("hr", HR_SIZES)
def test_no_encoder_needs_more_than_two_gflop_a_picture(hr: int, lr: int) -> None:
    assert _graph(hr, lr).flops() <= 2e9


def test_the_largest_encoder_for_1024_is_a_tflite_file_of_at_most_1_5_mb() -> None:
    graphs = [_graph(1024, lr) for lr in LR_SIZES]
    assert len(tflite_bytes(max(graphs, key=EncoderGraph.parameters))) <= 1_500_000
