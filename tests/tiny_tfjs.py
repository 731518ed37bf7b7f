"""A small TensorFlow.js graph with every operation that the converter supports."""

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
    dimensions = {"dim": [{"size": str(side)} for side in (-1, SIDE, SIDE, 3)]}
    attributes = {"shape": {"shape": dimensions}, "dtype": {"type": "DT_FLOAT"}}
    nodes = [{"name": "picture", "op": "Placeholder", "attr": attributes}]
    for name, array in weights.items():
        kind = "DT_INT32" if array.dtype == np.int32 else "DT_FLOAT"
        nodes.append({"name": name, "op": "Const", "attr": {"dtype": {"type": kind}}})
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
    convolved = node(op, name, picture, kernel)
    for attribute, text in (("padding", padding), ("data_format", "NHWC")):
        convolved["attr"][attribute] = {"s": base64.b64encode(text.encode()).decode()}
    for attribute, values in (("strides", {"i": list("1221")}), ("dilations", {"i": list("1111")})):
        convolved["attr"][attribute] = {"list": values}
    convolved["attr"]["explicit_paddings"] = {"list": {}}
    return convolved
