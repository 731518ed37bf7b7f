from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto

from edge_encoder.integer_network import IntegerNetwork
from export.encoder.graph import int8_parts


def test_input_and_output_are_bytes_with_a_dynamic_batch(exported: Mapping[str, Path], network: IntegerNetwork) -> None:
    graph = onnx.load(str(exported["onnx"])).graph
    for value, side in ((graph.input[0], network.hr), (graph.output[0], network.lr)):
        tensor = value.type.tensor_type
        assert tensor.elem_type == TensorProto.UINT8
        assert [dim.dim_param or dim.dim_value for dim in tensor.shape.dim] == ["n", side, side, 3]


def test_exact_weights_are_stored_as_int8_without_loss(network: IntegerNetwork, exported: Mapping[str, Path]) -> None:
    for layer in network.layers:
        parts = int8_parts(layer.exported_weight())
        integers, scale = parts
        assert np.array_equal(integers.astype(np.float32) * scale, layer.exported_weight())
    stored = onnx.load(str(exported["onnx"])).graph.initializer
    weights = [tensor for tensor in stored if tensor.name.endswith(".weight.int8")]
    assert len(weights) == len(network.layers)
    assert all(tensor.data_type == TensorProto.INT8 for tensor in weights)


def test_ordinary_float_weights_stay_as_they_are() -> None:
    assert int8_parts(np.random.default_rng(0).normal(size=(4, 3, 1, 1)).astype(np.float32)) is None
    assert int8_parts(np.zeros((2, 3, 1, 1), np.float32)) is not None
