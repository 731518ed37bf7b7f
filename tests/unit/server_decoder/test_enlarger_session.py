"""The enlarger session: right levels, and refusals that say what was found and expected."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from codec_contract.errors import BundleError, DeviceError, ImageError
from server_decoder.enlarger_session import EnlargerSession
from tests.tiny_bundle import nearest_enlarger

SIDE = 16


def squares(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)


def doubled(pictures: np.ndarray, factor: int = 2) -> np.ndarray:
    return pictures.repeat(factor, axis=1).repeat(factor, axis=2)


@pytest.fixture(scope="module")
def one_doubling() -> EnlargerSession:
    return EnlargerSession(nearest_enlarger(1, SIDE), SIDE, threads=1)


@pytest.mark.parametrize("factor", [2, 4])
def test_every_picture_is_enlarged(factor: int) -> None:
    session = EnlargerSession(nearest_enlarger(2, SIDE), SIDE, threads=1)
    for pictures in (squares(0), squares(1), squares(3)[:, ::-1, ::-1]):  # views too
        enlarged = session.enlarge(pictures, factor)
        assert session.factors == (2, 4) and enlarged.dtype == np.uint8
        np.testing.assert_array_equal(enlarged, doubled(pictures, factor))


def test_the_network_runs_on_one_picture_at_a_time() -> None:
    model = onnx.load_model_from_string(nearest_enlarger(1, SIDE)[0])
    for item in (model.graph.input[0], model.graph.output[0]):
        item.type.tensor_type.shape.dim[0].dim_value = 1
    enlarged = EnlargerSession([model.SerializeToString()], SIDE, threads=1).enlarge(squares(3), 2)
    np.testing.assert_array_equal(enlarged, doubled(squares(3)))


def test_the_second_doubling_takes_values_that_are_not_rounded() -> None:
    first, second = map(onnx.load_model_from_string, nearest_enlarger(2, SIDE))
    half = onnx.numpy_helper.from_array(np.float32(0.5), "half")
    for model in (first, second):  # the first adds a half that its own picture loses, the second another
        model.graph.initializer.append(half)
        place, resize = next(found for found in enumerate(model.graph.node) if found[1].op_type == "Resize")
        resize.input[0] = "sum"
        model.graph.node.insert(place, helper.make_node("Add", ["planes", "half"], ["sum"]))
    session = EnlargerSession([model.SerializeToString() for model in (first, second)], SIDE, threads=1)
    pictures = squares(1) // 2
    np.testing.assert_array_equal(session.enlarge(pictures, 2), doubled(pictures))
    np.testing.assert_array_equal(session.enlarge(pictures, 4), doubled(pictures, 4) + 1)


@pytest.mark.parametrize(
    ("models", "message"),
    [
        (
            nearest_enlarger(1, 8),
            r"file 1 .* squares of 16 pixels: its input is picture tensor\(uint8\) \['b', 8, 8, 3\]",
        ),
        (nearest_enlarger(1, SIDE, "float"), r"its input is picture tensor\(float\)"),
        (nearest_enlarger(2, SIDE)[:1], "its output is enlarged .*, values .*, features .*, expected enlarged"),
        (nearest_enlarger(2, SIDE)[1:], r"its input is values .*, expected picture"),
        (nearest_enlarger(1, SIDE) * 2, "its output is enlarged .*, expected enlarged, values, features"),
        (
            [nearest_enlarger(2, SIDE)[0], nearest_enlarger(2, 8)[1]],
            r"file 2 .* squares of 32 pixels: its input is values",
        ),
        ([], "1 or 2 files, got 0"),
        (nearest_enlarger(2, SIDE) + nearest_enlarger(1, 4 * SIDE), "1 or 2 files, got 3"),
        ([b"no model"], "the enlarger cannot be loaded"),
    ],
)
def test_files_that_are_no_such_enlarger(models: list[bytes], message: str) -> None:
    with pytest.raises(BundleError, match=message):
        EnlargerSession(models, SIDE)


def test_a_model_that_does_not_keep_to_its_signature() -> None:
    model = onnx.load_model_from_string(nearest_enlarger(1, SIDE)[0])
    scales = next(tensor for tensor in model.graph.initializer if tensor.name == "scales")
    scales.CopyFrom(onnx.numpy_helper.from_array(np.array([1, 1, 3, 3], np.float32), "scales"))
    model.graph.input.append(helper.make_tensor_value_info("scales", TensorProto.FLOAT, [4]))  # no constant any more
    with pytest.raises(BundleError, match=r"made a picture of \[48, 48, 3\], expected \[32, 32, 3\]"):
        EnlargerSession([model.SerializeToString()], SIDE).enlarge(squares(1), 2)


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((1, SIDE, 8, 3), np.uint8), np.zeros((SIDE, SIDE, 3), np.uint8), np.zeros((1, SIDE, SIDE, 3)), [1]],
)
def test_other_arrays_are_refused(one_doubling: EnlargerSession, wrong: np.ndarray) -> None:
    with pytest.raises(ImageError, match=r"takes pictures as uint8 \[N, 16, 16, 3\], got"):
        one_doubling.enlarge(wrong, 2)


def test_other_factors_and_devices_are_refused(one_doubling: EnlargerSession) -> None:
    with pytest.raises(ImageError, match="the enlarger has the factors 2, not 4"):
        one_doubling.enlarge(squares(1), 4)
    with pytest.raises(DeviceError, match="unknown device 'tpu'"):
        EnlargerSession(nearest_enlarger(1, SIDE), SIDE, "tpu")  # type: ignore[arg-type]
