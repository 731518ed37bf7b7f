"""The encoder session: the int64 reference's bytes, typed refusals."""

import numpy as np
import pytest
from onnx import TensorProto, helper

from codec_contract.errors import BundleError, ImageError
from edge_encoder.encoder_session import EncoderSession
from edge_encoder.integer_network import IntegerNetwork, run_reference
from export.encoder.graph import exact_graph
from export.encoder.onnx import onnx_model
from tests.networks import random_network
from tests.tiny_bundle import HR, LR, repeating_decoder


@pytest.fixture(scope="module")
def network() -> IntegerNetwork:
    return random_network(HR, LR, seed=2)


@pytest.fixture(scope="module")
def model(network: IntegerNetwork) -> bytes:
    return bytes(onnx_model(exact_graph(network)).SerializeToString())


def pictures(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, HR, HR, 3), dtype=np.uint8)


@pytest.mark.parametrize("threads", [None, 1, 2])
def test_equals_the_reference(network: IntegerNetwork, model: bytes, threads: int | None) -> None:
    session = EncoderSession(model, threads)
    assert (session.hr, session.lr) == (HR, LR)
    for batch in (pictures(1), pictures(5), pictures(2)[:, ::-1]):  # the last one is not contiguous
        lr = session.encode(batch)
        assert lr.dtype == np.uint8
        np.testing.assert_array_equal(lr, run_reference(network, batch))


def test_other_pictures_are_refused(model: bytes) -> None:
    arrays = [np.zeros(shape, np.uint8) for shape in ((HR, HR, 3), (1, 3, HR, HR), (1, HR, LR, 3))]
    for other in (*arrays, np.zeros((1, HR, HR, 3), np.float32), "a.jpg"):
        with pytest.raises(ImageError, match=r"takes uint8 \[N, 64, 64, 3\]"):
            EncoderSession(model).encode(other)


def test_other_models_are_refused(model: bytes) -> None:
    for data in (b"", b"not onnx", model[: len(model) // 2]):
        with pytest.raises(BundleError):
            EncoderSession(data)
    with pytest.raises(BundleError, match=r"not an encoder: it has lr tensor\(float\)"):
        EncoderSession(repeating_decoder())
    planes = helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", 3, HR, HR])
    lr = helper.make_tensor_value_info("lr", TensorProto.UINT8, ["n", 3, HR, HR])
    graph = helper.make_graph([helper.make_node("Identity", ["image"], ["lr"])], "planar", [planes], [lr])
    planar = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    with pytest.raises(BundleError, match=r"image tensor\(uint8\) \['n', 3, 64, 64\]"):
        EncoderSession(planar.SerializeToString())
