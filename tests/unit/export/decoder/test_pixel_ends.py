"""Plain graphs that take and give levels."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from codec_contract.errors import ExportError
from codec_contract.pixels import dequantize, quantize
from export.decoder.graph import add_pixel_ends, decoder_graph
from server_decoder.grain.rrdb_decoder import DecoderConfig, RRDBDecoder, Scale


@pytest.fixture
def plain() -> onnx.ModelProto:
    torch.manual_seed(0)
    scales = (Scale(8, 12, dense=1, growth=4), Scale(16, 8), Scale(32, 8))
    return decoder_graph(RRDBDecoder(DecoderConfig(scales, "subpixel", ())).eval(), 8)


def test_the_same_bytes_as_quantized_outside(plain: onnx.ModelProto) -> None:
    model = plain
    lrs = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
    providers = ["CPUExecutionProvider"]
    outside = onnxruntime.InferenceSession(model.SerializeToString(), providers=providers)
    values = np.ascontiguousarray(dequantize(lrs.astype(np.float32)).transpose(0, 3, 1, 2))
    wanted = quantize(outside.run(None, {"lr": values})[0]).transpose(0, 2, 3, 1)
    add_pixel_ends(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=providers)
    assert [(item.name, item.type, item.shape) for item in (*session.get_inputs(), *session.get_outputs())] == [
        ("lr", "tensor(uint8)", ["batch", 8, 8, 3]), ("hr", "tensor(uint8)", ["batch", 32, 32, 3])]
    np.testing.assert_array_equal(session.run(None, {"lr": lrs})[0], wanted)
    assert wanted.min() == 0 and wanted.max() == 255  # some values are clipped at both ends


def test_levels_that_are_clipped_and_halves_that_round_up() -> None:
    value = onnx.helper.make_tensor_value_info
    shape = ["batch", 3, 1, 4]
    factor = onnx.numpy_helper.from_array(np.array(2, np.float32), "factor")
    model = onnx.helper.make_model(onnx.helper.make_graph(
        [onnx.helper.make_node("Mul", ["lr", "factor"], ["hr"])], "scaled", [value("lr", 1, shape)],
        [value("hr", 1, shape)], [factor]), opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    add_pixel_ends(model)
    levels = np.uint8([0, 255, 96, 127]).reshape(1, 1, 4, 1).repeat(3, axis=3)
    found = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"lr": levels})[0]
    assert found[0, 0, :, 0].tolist() == [0, 255, 65, 127]  # 64.5 and 126.5: half to even would give 64 and 126


def test_a_graph_of_levels_is_refused(plain: onnx.ModelProto) -> None:
    model = plain
    add_pixel_ends(model)
    with pytest.raises(ExportError, match="no 'lr' of float32"):
        add_pixel_ends(model)
