"""ONNX models whose weights lie in other files: a bundle's model could copy a user's file into LRs and pictures."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data
from torch import nn

from codec_contract.errors import BundleError
from edge_encoder.encoder_session import EncoderSession
from edge_encoder.twin import box_network
from export.decoder.graph import load_parameters
from export.encoder.graph import exact_graph
from export.encoder.onnx import onnx_model
from server_decoder.decoder_session import DecoderSession
from server_decoder.enlarger_session import EnlargerSession
from tests.tiny_bundle import HR, LR, convolutional_decoder, nearest_enlarger

SECRET = "secret.bin"


def with_external_weights(model: bytes) -> bytes:
    """The model with its largest weight in the file ``secret.bin`` of the current directory, which is written."""
    proto = onnx.load_model_from_string(model)
    tensor = max(proto.graph.initializer, key=lambda tensor: np.prod(tensor.dims))
    data = numpy_helper.to_array(tensor).tobytes()
    Path(SECRET).write_bytes(data)
    for field in ("raw_data", "float_data", "int32_data", "int64_data"):
        tensor.ClearField(field)
    tensor.raw_data = data
    set_external_data(tensor, SECRET, 0, len(data))
    tensor.ClearField("raw_data")
    assert tensor.data_location == TensorProto.EXTERNAL
    return proto.SerializeToString()


def offset_enlarger() -> bytes:
    """An enlarger with a weight that is no shape: shapes have to be in the graph."""
    proto = onnx.load_model_from_string(nearest_enlarger(1)[0])
    cast = proto.graph.node[0]
    cast.output[0] = "levels_in"
    proto.graph.initializer.append(numpy_helper.from_array(np.zeros((1, HR, 1, 1), np.float32), "offset"))
    proto.graph.node.insert(1, helper.make_node("Add", ["levels_in", "offset"], ["floats"]))
    return bytes(proto.SerializeToString())


@pytest.mark.parametrize(
    ("model", "open_session"),
    [
        (lambda: onnx_model(exact_graph(box_network(HR, LR))).SerializeToString(), EncoderSession),
        (convolutional_decoder, DecoderSession),
        (offset_enlarger, lambda model: EnlargerSession([model], HR)),
        (offset_enlarger, lambda model: EnlargerSession([model], HR, weights=[b"another file"])),
    ],
    ids=["encoder", "decoder", "enlarger", "enlarger with weights"],
)
def test_sessions_read_no_other_file(
    model: Callable[[], bytes], open_session: Callable[[bytes], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    whole = model()
    outside = with_external_weights(whole)
    open_session(whole)
    onnxruntime.InferenceSession(outside, providers=["CPUExecutionProvider"])  # as ONNX Runtime reads it by itself
    with pytest.raises(BundleError):
        open_session(outside)


def test_weights_of_a_decoder_are_read_from_its_graph_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outside = onnx.load_model_from_string(with_external_weights(convolutional_decoder()))
    with pytest.raises(BundleError, match="lies in another file"):
        load_parameters(nn.Identity(), outside)
