"""Decoders in int8: the float32 form computes what it did, the int8 form nearly that, from the same weights."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx import helper

from codec_contract.errors import BundleError, ExportError
from codec_contract.pixels import network_input
from export.decoder import DecoderOptions, Ops, Pixels, Precision, WeightStorage
from export.decoder.export import export_decoder
from export.decoder.graph import load_parameters
from export.decoder.int8 import Int8Decoder, for_onnx_runtime, int8_decoder, refer
from server_decoder.decoder_session import DecoderSession
from server_decoder.grain.rrdb_decoder import DecoderConfig, RRDBDecoder, Scale
from server_decoder.providers import session_options
from tests.unit.edgegrain.conftest import shaken
from tests.unit.export.decoder.test_graph import SUBPIXEL, run

CONFIG = DecoderConfig(
    (Scale(8, 24, rrdb=1, growth=12), Scale(16, 24, residual=2), Scale(32, 16, residual=1)), "bilinear", (8,)
)
LRS = np.random.default_rng(0).integers(60, 200, (16, 8, 8, 3), np.uint8)


@pytest.fixture(scope="module")
def decoder() -> RRDBDecoder:
    """A decoder whose features have uneven ranges, as trained ones have."""
    decoder = shaken(RRDBDecoder, CONFIG, 0.01)
    decoder.upsamples[1].conv.weight.data[3] *= 8
    decoder.scales[1].blocks[0].conv1.weight.data[5] *= 8
    return decoder


@pytest.fixture(scope="module")
def exported(decoder: RRDBDecoder) -> bytes:
    return export_decoder(decoder, 8, DecoderOptions(WeightStorage.compact))


@pytest.fixture(scope="module")
def pair(exported: bytes) -> Int8Decoder:
    return int8_decoder(exported, LRS)


def values(model: bytes, **inputs: np.ndarray) -> np.ndarray:
    return run(onnx.load_model_from_string(model), torch.from_numpy(network_input(LRS)), **inputs)


def test_float32_stays_and_int8_is_near(exported: bytes, pair: Int8Decoder) -> None:
    before, after, near = (values(model) for model in (exported, pair.float32, pair.int8))
    spread = before.std()
    assert np.abs(after - before).max() < 0.15 * spread and np.std(after - before) < 0.02 * spread
    assert 0 < np.std(near - before) < 0.08 * spread
    assert np.abs((near - before).mean((0, 2, 3))).max() < 0.01 * spread  # what biases take back


def test_branches_for_coarser_steps_are_int8_and_skipped_at_its_own(decoder: RRDBDecoder) -> None:
    told = shaken(RRDBDecoder, replace(CONFIG, step=2), 0.01)
    told.load_state_dict(decoder.state_dict(), strict=False)
    for branch in told.step_branches:  # ranges of features stay about the same
        branch.conv.weight.data *= 0.1
    exported = export_decoder(told, 8, DecoderOptions(WeightStorage.compact))
    pair, steps = int8_decoder(exported, LRS), np.full(len(LRS), 32, np.float32)
    for step in ({}, {"step": steps}):
        before, after, near = (values(model, **step).clip(-1, 1) for model in (exported, pair.float32, pair.int8))
        assert np.std(after - before) < 0.02 * before.std() and np.std(near - before) < 0.16 * before.std()
    assert np.std(before - values(exported).clip(-1, 1)) > 0.2 * before.std()
    assert np.std(near - before) < 0.5 * np.std(before - values(exported).clip(-1, 1))  # the branches run
    branches = [node for node in onnx.load_model_from_string(pair.int8).graph.node if node.op_type == "If"]
    assert len(branches) == len(told.step_branches)  # and are skipped at the decoder's own step
    for branch in branches:
        skipped, taken = (helper.get_node_attr_value(branch, f"{name}_branch").node for name in ("else", "then"))
        near = {name for node in taken if node.op_type == "DequantizeLinear" for name in node.output}
        convolutions = [node for node in taken if node.op_type == "Conv"]
        assert len(skipped) == 1 and convolutions and all(set(node.input) <= near for node in convolutions)
    loaded = RRDBDecoder(told.config)
    load_parameters(loaded, onnx.load_model_from_string(pair.float32))
    for name, weight in told.state_dict().items():
        assert (loaded.state_dict()[name] - weight).abs().max() < 0.03 * weight.abs().max(), name


def test_equal_ranges_and_corrected_biases_matter(
    exported: bytes, pair: Int8Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = values(exported)
    monkeypatch.setattr("export.decoder.int8.STRENGTH", 0.0)
    uneven = values(int8_decoder(exported, LRS).int8)
    assert np.std(uneven - exact) > 1.2 * np.std(values(pair.int8) - exact)


def test_features_and_weights_of_the_float32_form_stay(decoder: RRDBDecoder, pair: Int8Decoder) -> None:
    loaded = RRDBDecoder(CONFIG)
    load_parameters(loaded, onnx.load_model_from_string(pair.float32))
    for name, weight in decoder.state_dict().items():
        assert (loaded.state_dict()[name] - weight).abs().max() < 0.03 * weight.abs().max(), name


def test_a_second_int8_form_has_the_weights_of_the_first(pair: Int8Decoder) -> None:
    again = int8_decoder(pair.float32, LRS[:4])  # other ranges, so other gains if they were found anew
    assert again.float32 == pair.float32
    one, other = (len(refer(made.int8, "decoder.onnx", pair.float32)) for made in (pair, again))
    assert other < 1.01 * one  # it refers to the same weights


def test_convolutions_are_of_levels_but_for_the_first_and_the_last(pair: Int8Decoder) -> None:
    nodes = onnx.load_model_from_string(pair.int8).graph.node
    near = {name for node in nodes if node.op_type == "DequantizeLinear" for name in node.output}
    floats = [node.input[0] for node in nodes if node.op_type.startswith("Conv") and not set(node.input) <= near]
    last = next(node for node in nodes if node.output[0] == "hr")
    assert floats == ["lr", last.input[0]] and last.op_type == "ConvTranspose"


def test_cpus_without_dot_products_give_the_same_pictures(pair: Int8Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = DecoderSession(pair.int8, threads=1).decode(LRS)
    monkeypatch.setattr("server_decoder.providers.has_dot_products", lambda: False)
    assert session_options("cpu", 1).get_session_config_entry("session.x64quantprecision") == "1"
    assert np.array_equal(DecoderSession(pair.int8, threads=1).decode(LRS), usual)


def test_the_form_for_onnx_runtime_gives_the_same_pictures(pair: Int8Decoder) -> None:
    made = for_onnx_runtime(pair.int8)
    before, after = (onnx.load_model_from_string(model).graph for model in (pair.int8, made))
    kinds = [sum(node.op_type == "LeakyRelu" for node in graph.node) for graph in (before, after)]
    assert kinds == [18, 1]  # the last one is float32
    assert sum(node.op_type == "Max" for node in after.node) == 17
    first = next(node.output[0] for node in before.node if "lr" in node.input)
    assert [node.output[0] for node in after.node if node.op_type == "Einsum"] == [f"{first}.nhwc"]
    taken = {name for node in after.node for name in node.input}
    assert all(taken & set(node.output) for node in after.node if node.output[0] != "hr")
    apart = np.abs(values(made) - values(pair.int8))
    assert apart.mean() < 1e-3 * values(pair.int8).std()  # a value halfway between two levels may fall on either side


def test_weights_come_from_the_other_file(pair: Int8Decoder) -> None:
    small = refer(pair.int8, "decoder.onnx", pair.float32)
    held = {item.name: item for item in onnx.load_model_from_string(small).graph.initializer}
    shared = [name for name, item in held.items() if item.data_location == onnx.TensorProto.EXTERNAL]
    large = [name for name, item in held.items() if name.endswith(".int8") and np.prod(item.dims) >= 4096]
    assert large and set(large) <= set(shared)
    both = [DecoderSession(pair.int8), DecoderSession(small, weights=("decoder.onnx", pair.float32))]
    np.testing.assert_array_equal(*(session.decode(LRS[:2]) for session in both))
    for weights in (None, ("another.onnx", pair.float32), ("decoder.onnx", pair.float32[:100])):
        with pytest.raises(BundleError, match="the decoder cannot be loaded"):
            DecoderSession(small, weights=weights)


def test_what_has_no_int8_form_is_refused() -> None:
    with pytest.raises(ExportError, match="no int8 form of a decoder with ConvTranspose; it runs in float32"):
        int8_decoder(export_decoder(shaken(RRDBDecoder, SUBPIXEL, 0.01), 8, DecoderOptions()), LRS)
    for wrong in ({"ops": Ops.fused}, {"pixels": Pixels.uint8}, {"storage": WeightStorage.float16}):
        with pytest.raises(ExportError, match="a decoder in int8 has ONNX's own operators"):
            DecoderOptions(precision=Precision.int8, **wrong)  # type: ignore[arg-type]
