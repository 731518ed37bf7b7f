"""The enlarger session: right levels, and refusals that say what was found and expected."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from codec_contract.errors import BundleError, DeviceError, ImageError
from server_decoder.super_resolution.enlarger_session import EnlargerSession
from tests.tiny_bundle import nearest_enlarger

SIDE = 16


def squares(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_every_picture_is_enlarged(factor: int, count: int) -> None:
    enlarged = EnlargerSession(nearest_enlarger(factor, SIDE), SIDE, factor, threads=1).enlarge(squares(count))
    assert enlarged.dtype == np.uint8
    np.testing.assert_array_equal(enlarged, squares(count).repeat(factor, axis=1).repeat(factor, axis=2))


def test_the_network_runs_on_one_picture_at_a_time() -> None:
    model = onnx.load_model_from_string(nearest_enlarger(2, SIDE))
    for item in (model.graph.input[0], model.graph.output[0]):
        item.type.tensor_type.shape.dim[0].dim_value = 1
    enlarged = EnlargerSession(model.SerializeToString(), SIDE, 2, threads=1).enlarge(squares(3))
    np.testing.assert_array_equal(enlarged, squares(3).repeat(2, axis=1).repeat(2, axis=2))


def test_views_are_taken() -> None:
    flipped = squares(2)[:, ::-1, ::-1]
    enlarged = EnlargerSession(nearest_enlarger(2, SIDE), SIDE, 2, threads=1).enlarge(flipped)
    np.testing.assert_array_equal(enlarged[:, ::2, ::2], flipped)


@pytest.mark.parametrize(("model", "message"), [
    (nearest_enlarger(4, SIDE), r"of factor 2: its output is enlarged tensor\(uint8\) \['b', 64, 64, 3\], expected "
                                r"enlarged tensor\(uint8\) \[batch, 32, 32, 3\]"),
    (nearest_enlarger(2, 8), r"its input is picture .* \['b', 8, 8, 3\], expected picture .* \[batch, 16, 16, 3\]"),
    (nearest_enlarger(2, SIDE, TensorProto.FLOAT), r"its input is picture tensor\(float\)"),
    (b"no model", "the enlarger cannot be loaded")])
def test_files_that_are_no_such_enlarger(model: bytes, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        EnlargerSession(model, SIDE, 2)


def test_a_model_that_does_not_keep_to_its_signature() -> None:
    def info(name: str, side: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.UINT8, ["b", side, side, 3])

    node = helper.make_node("Resize", ["picture", "", "scales"], ["enlarged"], mode="nearest")
    scales = helper.make_tensor_value_info("scales", TensorProto.FLOAT, [4])
    weights = [helper.make_tensor("scales", TensorProto.FLOAT, [4], [1, 3, 3, 1])]
    graph = helper.make_graph([node], "wrong", [info("picture", SIDE), scales], [info("enlarged", 32)], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    with pytest.raises(BundleError, match=r"made a picture of \[48, 48, 3\], expected \[32, 32, 3\]"):
        EnlargerSession(model.SerializeToString(), SIDE, 2).enlarge(squares(1))


@pytest.mark.parametrize("wrong", [
    np.zeros((1, SIDE, 8, 3), np.uint8), np.zeros((SIDE, SIDE, 3), np.uint8), np.zeros((1, SIDE, SIDE, 3)), [1]])
def test_other_arrays_are_refused(wrong: np.ndarray) -> None:
    session = EnlargerSession(nearest_enlarger(2, SIDE), SIDE, 2, threads=1)
    with pytest.raises(ImageError, match=r"takes pictures as uint8 \[N, 16, 16, 3\], got"):
        session.enlarge(wrong)


def test_devices() -> None:
    with pytest.raises(DeviceError, match="threads must be at least 1"):
        EnlargerSession(nearest_enlarger(2, SIDE), SIDE, 2, threads=0)
    with pytest.raises(DeviceError, match="unknown device 'tpu'"):
        EnlargerSession(nearest_enlarger(2, SIDE), SIDE, 2, "tpu")  # type: ignore[arg-type]
