"""A small TensorFlow.js graph with every operation that the converter supports."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

SIDE = 8
OUTPUT = "dense"


def tiny_graph() -> tuple[dict[str, Any], bytes]:
    """Content of ``model.json`` and of the weight file; input ``[B, 8, 8, 3]``, output ``[B, 5]``."""
    weights = {
        "mean": np.array([127.5]),
        "scale": np.array([1 / 128]),
        "zero": np.array(0.0),
        "sides": np.array([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32),
        "kernel": wave(3, 3, 3, 4),
        "alpha": wave(4),
        "depthwise_kernel": wave(3, 3, 4, 2),
        "shape": np.array([-1, 2 * 2 * 8], np.int32),
        "matrix": wave(32, 5),
    }
    nodes = [
        {
            "name": "picture",
            "op": "Placeholder",
            "attr": {
                "shape": {"shape": {"dim": [{"size": str(side)} for side in (-1, SIDE, SIDE, 3)]}},
                "dtype": {"type": "DT_FLOAT"},
            },
        }
    ]
    nodes += [
        {
            "name": name,
            "op": "Const",
            "attr": {"dtype": {"type": "DT_INT32" if array.dtype == np.int32 else "DT_FLOAT"}},
        }
        for name, array in weights.items()
    ]
    nodes += [
        node("Sub", "centred", "picture", "mean"),
        node("Mul", "x", "centred", "scale"),
        node("Pad", "padded", "x", "sides"),
        convolution("Conv2D", "conv", "padded", "kernel", "VALID"),
        node("Maximum", "above", "zero", "conv"),
        node("Minimum", "below", "zero", "conv"),
        node("Mul", "bent", "alpha", "below"),
        node("AddV2", "prelu", "above", "bent"),
        convolution("DepthwiseConv2dNative", "depthwise", "prelu", "depthwise_kernel", "SAME"),
        node("Reshape", "flat", "depthwise", "shape"),
        node("MatMul", OUTPUT, "flat", "matrix"),
    ]
    nodes[-1]["attr"] |= {"transpose_a": {"b": False}, "transpose_b": {"b": False}}
    arrays = {name: array if array.dtype == np.int32 else array.astype("<f4") for name, array in weights.items()}
    manifest = [{"name": name, "shape": list(array.shape), "dtype": str(array.dtype)} for name, array in arrays.items()]
    model = {
        "format": "graph-model",
        "modelTopology": {"node": nodes, "library": {}, "versions": {}},
        "weightsManifest": [{"paths": ["tiny.bin"], "weights": manifest}],
    }
    return model, b"".join(array.tobytes() for array in arrays.values())


def wave(*shape: int) -> np.ndarray:
    """Values in [-1, 1] without a pattern along any axis."""
    return np.sin(1.7 * np.arange(np.prod(shape)) ** 1.3).reshape(shape)


def node(op: str, name: str, *inputs: str) -> dict[str, Any]:
    """A node without attributes of its own."""
    return {"name": name, "op": op, "input": list(inputs), "attr": {"T": {"type": "DT_FLOAT"}}}


def convolution(op: str, name: str, picture: str, kernel: str, padding: str) -> dict[str, Any]:
    """A convolution of stride 2."""
    return {
        "name": name,
        "op": op,
        "input": [picture, kernel],
        "attr": {
            "T": {"type": "DT_FLOAT"},
            "padding": {"s": base64.b64encode(padding.encode()).decode()},
            "data_format": {"s": base64.b64encode(b"NHWC").decode()},
            "strides": {"list": {"i": ["1", "2", "2", "1"]}},
            "dilations": {"list": {"i": ["1", "1", "1", "1"]}},
            "explicit_paddings": {"list": {}},
        },
    }
