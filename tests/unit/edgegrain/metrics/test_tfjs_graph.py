"""Converted TensorFlow.js graphs compute what TensorFlow.js computes, and unknown ones are refused."""

from __future__ import annotations

import copy

import numpy as np
import onnxruntime
import pytest

from codec_contract.errors import ModelError
from edgegrain.metrics.tfjs_graph import to_onnx
from tests.tiny_tfjs import OUTPUT, SIDE, tiny_graph, wave

# Output of the graph in TensorFlow.js 4.22.0 (its CPU backend) for the pictures of the test.
TFJS = [[2.836808, 3.938768, -16.805984, 4.036007, 11.603285], [0.896936, 0.823247, 13.127138, -14.972277, -9.913740]]


def test_equals_tensorflow_js() -> None:
    pictures = (127.5 + 100 * wave(2, SIDE, SIDE, 3)).astype(np.float32)
    session = onnxruntime.InferenceSession(to_onnx(*tiny_graph(), OUTPUT).SerializeToString())
    assert session.get_inputs()[0].shape == ["B", SIDE, SIDE, 3]
    np.testing.assert_allclose(session.run(None, {"picture": pictures})[0], TFJS, atol=2e-5)


def test_unsupported_graphs_are_refused() -> None:
    model, weights = tiny_graph()
    with pytest.raises(ModelError, match="ends after 100 bytes"):
        to_onnx(model, weights[:100], OUTPUT)
    other = copy.deepcopy(model)
    other["modelTopology"]["node"][-1]["op"] = "Softmax"
    with pytest.raises(ModelError, match="operation Softmax of node dense .* one of AddV2, .*Conv2D, .*Reshape$"):
        to_onnx(other, weights, OUTPUT)
    other = copy.deepcopy(model)
    other["weightsManifest"][0]["weights"][0]["quantization"] = {"dtype": "uint8", "scale": 1, "min": 0}
    with pytest.raises(ModelError, match="mean is quantized"):
        to_onnx(other, weights, OUTPUT)
    other = copy.deepcopy(model)
    dilated = next(node for node in other["modelTopology"]["node"] if node["name"] == "conv")
    dilated["attr"]["dilations"]["list"]["i"][1] = "2"
    with pytest.raises(ModelError, match="convolution conv with padding VALID"):
        to_onnx(other, weights, OUTPUT)
