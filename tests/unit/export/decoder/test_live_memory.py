"""Memory of a graph's values, by a graph whose lifetimes are known."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.decoder.live_memory import largest_live_bytes, weight_bytes


def graph(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    value = helper.make_tensor_value_info
    return helper.make_model(helper.make_graph(
        list(nodes), "g", [value("x", TensorProto.FLOAT, ["n", 10])], [value("y", TensorProto.FLOAT, ["n", 10])],
        [numpy_helper.from_array(np.ones((3, 5), np.float16), "w")]))


def test_values_live_from_their_node_to_their_last_use() -> None:
    chain = [helper.make_node("Relu", [a], [b]) for a, b in (("x", "a"), ("a", "b"), ("b", "c"))]
    assert largest_live_bytes(graph(*chain, helper.make_node("Relu", ["c"], ["y"]))) == 2 * 40  # input and output
    # a is used again at the end
    assert largest_live_bytes(graph(*chain, helper.make_node("Add", ["c", "a"], ["y"]))) == 3 * 40
    wide = helper.make_node("Concat", ["x", "x", "x"], ["wide"], axis=1)  # 120 bytes that nothing uses
    assert largest_live_bytes(graph(wide, helper.make_node("Relu", ["x"], ["y"]))) == 40 + 120


@pytest.mark.parametrize(("kind", "width"), [(TensorProto.DOUBLE, 8), (TensorProto.INT16, 2), (TensorProto.BOOL, 1)])
def test_every_type_counts_with_its_width(kind: int, width: int) -> None:
    cast = helper.make_node("Cast", ["x"], ["cast"], to=kind)  # 10 values that nothing uses
    assert largest_live_bytes(graph(cast, helper.make_node("Relu", ["x"], ["y"]))) == 40 + max(40, 10 * width)


def test_what_is_computed_from_weights_alone_is_not_counted() -> None:
    widen = [helper.make_node("Cast", ["w"], ["wide"], to=TensorProto.FLOAT), helper.make_node(
        "Mul", ["wide", "wide"], ["scaled"]), helper.make_node("Flatten", ["scaled"], ["flat"])]
    last = helper.make_node("Relu", ["x"], ["y"])
    assert largest_live_bytes(graph(*widen, last)) == largest_live_bytes(graph(last)) == 2 * 40


def test_weights_count_as_float32() -> None:
    assert weight_bytes(graph(helper.make_node("Relu", ["x"], ["y"]))) == 4 * 15
