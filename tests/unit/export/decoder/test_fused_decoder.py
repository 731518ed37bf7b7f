"""Decoders with fused operators compute what torch's compute, with one node per convolution."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from torch import Tensor

from benchmarks.speed.random_decoder import random_decoder, random_grain
from codec_contract.pixels import dequantize, quantize
from export.decoder.fused_decoder import CLAMP, fused_graph, normalized_filters
from export.decoder.served import served_decoder
from server_decoder.cuda_ops.library import DOMAIN
from server_decoder.grain.code_predictor import CodesConfig
from server_decoder.grain.fusion import FusionConfig
from server_decoder.grain.grain import PRESETS, Grain, GrainConfig, PriorConfig
from server_decoder.grain.rrdb_decoder import DecoderConfig, RRDBDecoder, Scale
from server_decoder.mobile_stylegan import MobileStyleGANConfig
from tests import fused_ops as reference
from tests.tiny_grain import TINY, TINY_MOBILE
from tests.unit.edgegrain.conftest import shaken

Results = tuple[np.ndarray, ...]


def run_reference_graph(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> np.ndarray:
    """The first output on onnx's evaluator, where ops of ``com.edgegrain`` compute in float64 and round once."""
    found: Any = ReferenceEvaluator(model, new_ops=_OPS).run(None, dict(feeds))
    return np.asarray(found[0])


def _op(name: str, compute: Callable[..., Any], typed: bool = True) -> type[OpRun]:
    """The op; ``typed``: with results in the type of its first input."""

    def run(self: OpRun, *inputs: np.ndarray | None, **_: Any) -> Results:
        attributes = {item.name: onnx.helper.get_attribute_value(item) for item in self.onnx_node.attribute}
        attributes.pop("channels_last", None)  # always 1
        if "mode" in attributes:
            attributes["mode"] = attributes["mode"].decode()
        results = compute(*inputs, **attributes)
        results = results if isinstance(results, tuple) else (results,)
        if typed:
            results = tuple(part.astype(inputs[0].dtype) for part in results)
        # With one output, an op with a style gives the modulated result alone.
        return results if len(self.onnx_node.output) == 2 else results[-1:]

    return type(name, (OpRun,), {"op_domain": DOMAIN, "_run": run})


def _dense_block(x: np.ndarray, outer: np.ndarray | None, *parts: np.ndarray, **attributes: float) -> np.ndarray:
    half = len(parts) // 2
    return reference.dense_block(x, outer, parts[:half], parts[half:], **attributes)


def _dequantize(lr: np.ndarray, *, to: int) -> np.ndarray:
    return dequantize(lr.astype(np.float64)).astype(onnx.helper.tensor_dtype_to_np_dtype(to))


_OPS = [
    _op("FusedConv", reference.fused_conv),
    _op("DenseBlock", _dense_block),
    _op("Upsample", reference.upsample),
    _op("ModulationFactors", reference.modulation_factors),
    _op("FilteredBiasAct", reference.filtered_bias_act),
    _op("UpFirDn2d", reference.upfirdn2d),
    _op("InverseHaar", reference.inverse_haar),
    _op("DequantizeLR", _dequantize, typed=False),
    _op("QuantizePicture", quantize, typed=False),
]

_WAVELET_PRIOR = MobileStyleGANConfig(16, "wavelet", 256, 32, code_width=32, mapping_layers=2)
WAVELET = replace(TINY_MOBILE, prior=PriorConfig("mobile-stylegan", _WAVELET_PRIOR))
SMOKE = PRESETS["grain-smoke"]
VARIANTS: dict[str, GrainConfig] = {
    "stylegan2": TINY,
    "mobile": TINY_MOBILE,
    "three sizes": SMOKE,
    "stylegan2, picture": replace(TINY, fusion=None, codes=replace(TINY.codes, offsets=(4, 8))),
    "mobile, picture": replace(TINY_MOBILE, fusion=None),
    "wavelet, picture": replace(WAVELET, fusion=None),
    "wavelet": replace(WAVELET, fusion=replace(WAVELET.fusion, base="style")),
    "invertible only": replace(TINY, prior=None, codes=None, fusion=None),
    "pictures": replace(TINY, fusion=FusionConfig("pictures", head=(8,))),
    "pictures, style": replace(TINY_MOBILE, fusion=FusionConfig("pictures", "style", head=())),
    "one size": replace(TINY, fusion=FusionConfig(sizes=(16,), widths=(8,), head=(8,), base="none")),
    "no head": replace(TINY, fusion=replace(TINY.fusion, head=(), base="style")),
    "four sizes": GrainConfig(
        replace(SMOKE.decoder, scales=(Scale(8, 8), *SMOKE.decoder.scales)),
        SMOKE.prior,
        replace(SMOKE.codes, widths=8, branch=(8, 8, 12)),
        FusionConfig(sizes=(8, 16, 32, 64), widths=(8, 8, 8, 8), head=(8, 8)),
    ),
    "coarsest, a branch per code": replace(TINY, codes=CodesConfig(8, (8, 12, 64), source="coarsest")),
}


def _rrdb(upsampling: str, step: int = 0) -> RRDBDecoder:
    fine = 12 if upsampling == "nearest" else 8
    scales = Scale(8, 12, rrdb=1, growth=4), Scale(16, fine, dense=1, growth=4), Scale(32, fine, residual=1)
    return shaken(RRDBDecoder, DecoderConfig(scales, upsampling, head=(8,), step=step), 0.01)


DECODERS: dict[str, Callable[[], Grain | RRDBDecoder]] = {
    **{kind: lambda kind=kind: _rrdb(kind) for kind in ("nearest", "bilinear", "subpixel")},
    "told a step": lambda: _rrdb("bilinear", 3),
    "grain, told a step": lambda: random_grain(replace(TINY, decoder=replace(TINY.decoder, step=3))),
    **{name: lambda config=config: random_grain(config) for name, config in VARIANTS.items()},
}


def levels(decoder: Grain | RRDBDecoder) -> np.ndarray:
    side = (decoder.config.decoder if isinstance(decoder, Grain) else decoder.config).lr
    return np.random.default_rng(0).integers(0, 256, (2, side, side, 3), np.uint8)


def values(lrs: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(dequantize(lrs.astype(np.float32)).transpose(0, 3, 1, 2)))


def run(model: onnx.ModelProto, lrs: np.ndarray, **inputs: np.ndarray) -> np.ndarray:
    """The picture before it is rounded, ``[B, 3, H, W]``."""
    unrounded = onnx.ModelProto()
    unrounded.CopyFrom(model)
    last = unrounded.graph.node.pop()
    assert last.op_type == "QuantizePicture"
    del unrounded.graph.output[:]
    unrounded.graph.output.append(onnx.helper.make_tensor_value_info(last.input[0], onnx.TensorProto.FLOAT, None))
    return run_reference_graph(unrounded, {"lr": lrs, **inputs}).transpose(0, 3, 1, 2)


def ops(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


@pytest.mark.parametrize("name", DECODERS)
@torch.no_grad()
def test_every_variant_computes_the_same(name: str) -> None:
    decoder = DECODERS[name]()
    whole, half, lrs = fused_graph(decoder), fused_graph(decoder, half=True), levels(decoder)
    expected = decoder(values(lrs)).numpy()
    np.testing.assert_allclose(run(whole, lrs), expected, atol=2e-6 * np.abs(expected).max(), rtol=0)
    error = run(half, lrs) - expected
    assert 10 * np.log10(4 * expected.var() / np.square(error).mean()) > 60  # dB
    served = served_decoder(decoder)  # with ONNX's operators
    np.testing.assert_allclose(served(values(lrs)).numpy(), expected, atol=1e-5 * np.abs(expected).max(), rtol=0)
    states = served.state_dict(), decoder.state_dict()
    shared, own = ({name: tensor.data_ptr() for name, tensor in state.items()} for state in states)
    assert shared == own
    weights = {node.input[1] for node in half.graph.node if node.op_type == "FusedConv"}
    kinds = {tensor.data_type for tensor in half.graph.initializer if tensor.name in weights}
    assert kinds == {onnx.TensorProto.FLOAT16}


@pytest.mark.parametrize("name", ["stylegan2", "mobile"])
@torch.no_grad()
def test_halves_do_not_overflow_at_six_sigma(name: str) -> None:
    decoder = DECODERS[name]()
    decoder.prior.mean_code = 6 * torch.randn(decoder.prior.code_width, generator=torch.Generator().manual_seed(3))
    found = run(fused_graph(decoder, half=True), levels(decoder))
    assert np.isfinite(found).all() and found.std() > 0


def test_convolutions_in_float16_cannot_overflow() -> None:
    # The largest activations and filters that the form admits, for a style of one: 512 channels, 3x3 taps of one sign.
    weight, norm = normalized_filters(torch.full((1, 512, 3, 3), 1e4))
    assert norm.item() == pytest.approx(1e4 * 4608**0.5)
    largest = torch.nn.functional.conv2d(torch.full((1, 512, 3, 3), CLAMP), weight.half().float()).half()
    assert largest.item() == pytest.approx(CLAMP * 4608**0.5, rel=1e-3)
    assert CLAMP > 461  # of zoo/faces-256-lr16-small-grain
    assert not normalized_filters(torch.zeros(2, 1, 3, 3))[0].any()


@torch.no_grad()
def test_each_picture_has_a_step_of_its_own() -> None:
    decoder = DECODERS["told a step"]()
    lrs, steps = levels(decoder), np.array([2, 40], np.float32)
    expected = decoder(values(lrs), torch.from_numpy(steps)).numpy()
    np.testing.assert_allclose(run(fused_graph(decoder), lrs, step=steps), expected, atol=2e-6, rtol=0)
    assert np.abs(expected - decoder(values(lrs)).numpy()).max() > 1e-3


@torch.no_grad()
def test_levels_in_levels_out() -> None:
    decoder = _rrdb("bilinear")
    model = fused_graph(decoder)
    for value, name, side in ((model.graph.input[0], "lr", 8), (model.graph.output[0], "hr", 32)):
        kind = value.type.tensor_type
        assert (value.name, kind.elem_type) == (name, onnx.TensorProto.UINT8)
        assert [size.dim_param or size.dim_value for size in kind.shape.dim] == ["batch", side, side, 3]
    lrs = levels(decoder)
    picture = run_reference_graph(model, {"lr": lrs})
    wanted = quantize(decoder(values(lrs)).numpy()).transpose(0, 2, 3, 1)
    assert picture.dtype == np.uint8 and (picture != wanted).mean() < 1e-3


@pytest.mark.parametrize(
    ("kind", "nodes"),
    [
        # Two convolutions of the head, one at each scale's beginning or end, two of a residual block.
        ("nearest", {"FusedConv": 8, "DenseBlock": 4, "Upsample": 2}),
        ("bilinear", {"FusedConv": 10, "DenseBlock": 4, "Upsample": 2}),
        ("subpixel", {"FusedConv": 10, "DenseBlock": 4}),
    ],
)
def test_an_rrdb_decoder_has_a_node_per_convolution(kind: str, nodes: dict[str, int]) -> None:
    model = fused_graph(_rrdb(kind))
    assert ops(model) == {**nodes, "DequantizeLR": 1, "QuantizePicture": 1}
    blocks = [node for node in model.graph.node if node.op_type == "DenseBlock"]
    # Only the last block of an RRDB adds the RRDB's input; the reduced RRDB is one block.
    assert [bool(block.input[1]) for block in blocks] == [False, False, True, True]
    scales = {item.name: item.f for item in blocks[-1].attribute}
    assert scales == pytest.approx({"slope": 0.2, "scale": 0.2, "outer_scale": 0.2})


def test_a_generator_has_no_steps_between_its_convolutions() -> None:
    model = fused_graph(random_decoder("grain-smoke").decoder)
    counts = ops(model)
    # Nine layers, four of which upsample; nine styles.
    assert counts["ModulationFactors"] == 9 and counts["FilteredBiasAct"] == 4
    assert sum(counts.values()) <= 145
    infos = {value.name: value.type.tensor_type.shape.dim for value in model.graph.value_info}
    constants = {tensor.name for tensor in model.graph.initializer}
    sides = {name: [side.dim_value for side in dims] for name, dims in infos.items() if name not in constants}
    maps = {name for name, side in sides.items() if len(side) == 4 and side[1] > 1 and side[3] > 1}  # 1: noise
    read_by = {node.op_type for node in model.graph.node if maps & set(node.input)}
    # Maps pass through fused nodes; their channels are averaged, and pictures added.
    # Channel weights are multiplied with filters.
    assert read_by <= {"FusedConv", "FilteredBiasAct", "Upsample", "ReduceMean", "Add", "QuantizePicture"}


def test_the_papers_decoder_in_float16_has_few_nodes() -> None:
    """Of a narrower one, which has the same nodes: docs/cuda_ops.md."""
    paper = PRESETS["grain-1024-lr16-paper"]
    scales = tuple(replace(scale, channels=16, growth=4) for scale in paper.decoder.scales)
    prior = replace(paper.prior.network, channel_base=8192, channel_max=16, code_width=16)
    fusion = replace(paper.fusion, widths=(8, 8, 8), head=(8, 8, 8, 8))
    decoder, codes = replace(paper.decoder, scales=scales), CodesConfig(16, (16, 16, 16, 16))
    narrow = GrainConfig(decoder, PriorConfig("stylegan2", prior), codes, fusion)
    assert len(fused_graph(Grain(narrow).eval(), half=True).graph.node) == 346
