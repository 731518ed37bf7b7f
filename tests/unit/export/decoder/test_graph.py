"""Decoders as ONNX: equal to torch, any batch, float16 storage, and back to torch."""

from copy import deepcopy
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from codec_contract.errors import BundleError, ExportError
from codec_contract.pixels import network_input, pictures_of
from export.decoder import DecoderOptions, Pixels, WeightStorage
from export.decoder.export import export_decoder
from export.decoder.graph import OPSET, decoder_graph, from_levels, load_parameters, store_half, to_levels
from server_decoder.grain.rrdb_decoder import DecoderConfig, RRDBDecoder, Scale
from server_decoder.providers import session_options
from tests.unit.edgegrain.conftest import same, shaken

SCALES = Scale(8, 12, rrdb=1, growth=4), Scale(16, 12, dense=1, growth=4), Scale(32, 12, residual=1)
CONFIG = DecoderConfig(SCALES, head=(8,))
LRS = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
SUBPIXEL = DecoderConfig((Scale(8, 12, rrdb=1, growth=4), Scale(16, 6)), "subpixel", ())


@pytest.fixture(scope="module")
def decoder() -> RRDBDecoder:
    return shaken(RRDBDecoder, CONFIG, 0.01)


@pytest.fixture(scope="module")
def graph(decoder: RRDBDecoder) -> onnx.ModelProto:
    return decoder_graph(decoder, 8)


def run(model: onnx.ModelProto, lr: torch.Tensor, **inputs: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), session_options("cpu", 1))
    return session.run(["hr"], {"lr": lr.numpy(), **inputs})[0]


def weight_bytes(model: onnx.ModelProto) -> int:
    arrays = map(onnx.numpy_helper.to_array, model.graph.initializer)
    return sum(array.nbytes for array in arrays if array.dtype in (np.float32, np.float16))


def test_opset_and_batch_are_as_promised_and_nothing_about_the_machine_is_inside(graph: onnx.ModelProto) -> None:
    assert [entry.version for entry in graph.opset_import if entry.domain == ""] == [OPSET] and OPSET >= 18
    assert graph.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    data = graph.SerializeToString()
    assert str(Path(__file__).resolve().parents[4]).encode() not in data and b"stack_trace" not in data


@torch.no_grad()
def test_half_storage_halves_the_file_and_computes_with_halves(decoder: RRDBDecoder, graph: onnx.ModelProto) -> None:
    rounded, again = RRDBDecoder(CONFIG), RRDBDecoder(CONFIG)
    rounded.load_state_dict(decoder.state_dict())
    half = onnx.load_model_from_string(export_decoder(rounded, 8, DecoderOptions(WeightStorage.float16)))
    parameters = sum(parameter.numel() for parameter in rounded.parameters())
    assert weight_bytes(graph) - weight_bytes(half) == 2 * parameters  # constants such as 0.2 stay float32
    for model, module, batch in ((half, rounded, 2), (graph, decoder, 1), (graph, decoder, 5)):
        lr = torch.rand(batch, 3, 8, 8) * 2 - 1
        np.testing.assert_allclose(run(model, lr), module(lr).numpy(), atol=1e-5)
    load_parameters(again, half)
    assert same(again, rounded) and not same(rounded, decoder)


def test_weights_come_back_from_the_graph_of_a_new_decoder() -> None:
    """Its biases are all zero: as a rule, exporters drop them and keep equals once."""
    source, target = RRDBDecoder(SUBPIXEL), RRDBDecoder(SUBPIXEL)
    before = deepcopy(source.state_dict())
    model = onnx.load_model_from_string(export_decoder(source, 8, DecoderOptions(WeightStorage.float32)))
    load_parameters(target, model)
    assert same(target, source) and same(source, before)
    with pytest.raises(BundleError, match="missing"):
        load_parameters(RRDBDecoder(CONFIG), model)


def test_a_weight_too_large_for_half_is_refused(graph: onnx.ModelProto) -> None:
    changed = onnx.ModelProto()
    changed.CopyFrom(graph)
    tensor = next(tensor for tensor in changed.graph.initializer if tensor.name == "conv_first.weight")
    values = onnx.numpy_helper.to_array(tensor).copy()
    values[0, 0, 0, 0] = 1e5
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    with pytest.raises(ExportError, match=r"conv_first\.weight"):
        store_half(changed)


class Reshaped(nn.Module):
    def forward(self, lr: Tensor) -> Tensor:
        return lr.reshape(lr.shape[0], 4, 12).reshape(lr.shape[0], 3, 4, 4)


class Repeated(nn.Module):
    def forward(self, lr: Tensor) -> Tensor:
        return lr + torch.ones(lr.shape[0], 3, 1, 1)


class Doubled(nn.Module):
    """Takes and gives levels."""

    def forward(self, lr: Tensor) -> Tensor:
        return to_levels(2 * from_levels(lr))


def test_levels_give_the_bytes_of_values_quantized_outside(decoder: RRDBDecoder, graph: onnx.ModelProto) -> None:
    wanted = pictures_of(run(graph, torch.from_numpy(network_input(LRS))))
    model = export_decoder(decoder, 8, DecoderOptions(pixels=Pixels.uint8))
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    for (end,), name, side in ((session.get_inputs(), "lr", 8), (session.get_outputs(), "hr", 32)):
        assert (end.name, end.type, end.shape) == (name, "tensor(uint8)", ["batch", side, side, 3])
    np.testing.assert_array_equal(session.run(None, {"lr": LRS})[0], wanted)


def test_levels_that_are_clipped_and_halves_that_round_up() -> None:
    levels = np.uint8([0, 255, 96, 127]).reshape(1, 2, 2, 1).repeat(3, axis=3)
    found = run(decoder_graph(Doubled(), 2, levels=True), torch.from_numpy(levels))
    assert found[0, :, :, 0].flatten().tolist() == [0, 255, 65, 127]  # 64.5, 126.5: half to even gives 64 and 126


def test_a_view_gets_a_constant_shape() -> None:
    graph = decoder_graph(Reshaped(), 4).graph
    held = {tensor.name: onnx.numpy_helper.to_array(tensor).tolist() for tensor in graph.initializer}
    assert [held[node.input[1]] for node in graph.node] == [[-1, 4, 12], [-1, 3, 4, 4]]


def test_other_uses_of_the_batch_are_refused() -> None:
    with pytest.raises(ExportError, match="reads sizes with Shape"):
        decoder_graph(Repeated(), 4)
