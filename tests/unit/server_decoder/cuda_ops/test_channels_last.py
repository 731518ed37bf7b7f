"""Ops on channels-last maps: kernels against their definition in float64, and refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper

from codec_contract.quantization import dequantize, quantize
from export.decoder.half_generators import normalized_style
from server_decoder.cuda_ops import library, reference
from server_decoder.stylegan2.layers import demodulation
from tests.custom_ops import TOLERANCE, TYPES, Ops, difference

TAPS = (0.1, 0.3, 0.5, 0.2)  # not symmetric: a filter the wrong way round shows
SIZES = pytest.mark.parametrize("size", [(8, 8), (16, 16), (9, 5), (1, 1), (3, 20)], ids=str)
CHANNELS = (1, 3, 4, 8, 13, 16, 32)
"""In pieces of one, of 16 bytes, and of 16 (on the CPU)."""


def random_tail(rng: np.random.Generator, kind: type, shape: tuple[int, ...], parts: str = "dnbs", shared: bool = False
                ) -> list[np.ndarray | None]:
    """Demodulation, noise, bias and style for an activation of this shape; those whose initial is in ``parts``."""
    batch, height, width, channels = shape
    made = {"d": rng.uniform(0.2, 2, (batch, channels)).astype(np.float32),
            "n": rng.standard_normal((1 if shared else batch, height, width, 1)).astype(kind),
            "b": rng.standard_normal(channels).astype(np.float32),
            "s": rng.standard_normal((batch, channels)).astype(np.float32)}
    return [made[part] if part in parts else None for part in "dnbs"]


def check_tail(ops: Ops, op: str, x: np.ndarray, tail: list[np.ndarray | None], wanted: tuple[np.ndarray, np.ndarray],
               settings: dict[str, object]) -> None:
    """One output, and both outputs where there is a style."""
    kind = x.dtype.type
    (found,) = ops(op, x, *tail, channels_last=1, **settings)
    assert found.dtype == kind
    assert difference(found, wanted[1]) < TOLERANCE[kind]
    if tail[3] is not None:
        both = ops(op, x, *tail, outputs=2, channels_last=1, **settings)
        assert difference(both[0], wanted[0]) < TOLERANCE[kind]
        np.testing.assert_array_equal(both[1], found)


@TYPES
@SIZES
def test_demod_bias_act(ops: Ops, rng: np.random.Generator, kind: type, size: tuple[int, int]) -> None:
    for channels, parts in zip(CHANNELS, ("dnbs", "db", "", "ns", "dnbs", "dnb", "dnbs"), strict=True):
        x = rng.standard_normal((2, *size, channels)).astype(kind)
        tail = random_tail(rng, kind, x.shape, parts, shared=channels == 16)
        settings = {"slope": 0.2, "gain": 2**0.5, "clamp": 1.5 if parts == "db" else 0.0}
        wanted = reference.demod_bias_act(x, *tail, channels_last=True, **settings)
        check_tail(ops, "DemodBiasAct", x, tail, wanted, settings)


@TYPES
@pytest.mark.parametrize("size", [(9, 9), (17, 17), (5, 12), (8, 3), (4, 4)], ids=str)
def test_filtered_bias_act(ops: Ops, rng: np.random.Generator, kind: type, size: tuple[int, int]) -> None:
    pads = ([1, 1, 1, 1], [2, 1, 0, 3], [0, 2, 3, 1])
    for channels, pad in zip((3, 8, 32), pads, strict=True):
        x = rng.standard_normal((2, *size, channels)).astype(kind)
        out = (2, size[0] + pad[2] + pad[3] - 3, size[1] + pad[0] + pad[1] - 3, channels)
        tail = random_tail(rng, kind, out, shared=channels == 8)
        settings = {"taps": TAPS, "filter_gain": 4.0, "pad": pad, "slope": 0.2, "gain": 2**0.5, "clamp": 2.0}
        wanted = reference.filtered_bias_act(x, *tail, channels_last=True, **settings)
        check_tail(ops, "FilteredBiasAct", x, tail, wanted, settings)


@TYPES
@pytest.mark.parametrize(("up", "down"), [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_upfirdn2d(ops: Ops, rng: np.random.Generator, kind: type, up: int, down: int) -> None:
    for size, pad, channels in (((16, 16), [2, 1, 2, 1], 3), ((7, 17), [1, 1, 1, 1], 8), ((6, 5), [3, 0, 1, 2], 16)):
        x = rng.standard_normal((2, *size, channels)).astype(kind)
        settings = {"taps": TAPS, "filter_gain": 4.0, "up": up, "down": down, "pad": pad}
        (found,) = ops("UpFirDn2d", x, channels_last=1, **settings)
        assert difference(found, reference.upfirdn2d(x, channels_last=True, **settings)) < TOLERANCE[kind]


@TYPES
@SIZES
def test_inverse_haar(ops: Ops, rng: np.random.Generator, kind: type, size: tuple[int, int]) -> None:
    for channels in CHANNELS:
        bands = rng.standard_normal((2, *size, 4 * channels)).astype(kind)
        style = rng.standard_normal((2, 4 * channels)).astype(np.float32) if channels != 4 else None
        (found,) = ops("InverseHaar", bands, style, scale=0.5, channels_last=1)
        wanted = reference.inverse_haar(bands, style, scale=0.5, channels_last=True)
        assert difference(found, wanted) < TOLERANCE[kind]


@TYPES
@SIZES
@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_upsample(ops: Ops, rng: np.random.Generator, kind: type, size: tuple[int, int], mode: str) -> None:
    for channels in CHANNELS:
        x = rng.standard_normal((2, *size, channels)).astype(kind)
        (found,) = ops("Upsample", x, mode=mode)
        assert difference(found, reference.upsample(x, mode=mode)) < TOLERANCE[kind]
        if mode == "nearest":
            np.testing.assert_array_equal(found[:, ::2, 1::2], x)


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_upsampling_is_torchs(rng: np.random.Generator, mode: str) -> None:
    x = rng.standard_normal((2, 5, 3, 4))
    wanted = F.interpolate(torch.from_numpy(reference.to_nchw(x)), scale_factor=2, mode=mode)
    np.testing.assert_allclose(reference.to_nchw(reference.upsample(x, mode=mode)), wanted, atol=1e-12)


def test_large_maps_on_several_threads(ops: Ops, rng: np.random.Generator) -> None:
    x = rng.standard_normal((2, 65, 65, 24)).astype(np.float32)
    tail = random_tail(rng, np.float32, (2, 64, 64, 24))
    (found,) = ops("FilteredBiasAct", x, *tail, pad=[1, 1, 1, 1], channels_last=1, threads=2)
    assert difference(found, reference.filtered_bias_act(x, *tail, pad=(1, 1, 1, 1), channels_last=True)[1]) < 1e-5


def test_unaligned_memory(ops_library: Path, rng: np.random.Generator) -> None:
    ops = Ops(ops_library, "cpu")
    for kind in (np.float32, np.float16):
        x = np.empty(2 * 6 * 6 * 8 + 1, kind)[1:].reshape(2, 6, 6, 8)
        x[:] = rng.standard_normal(x.shape)
        assert x.ctypes.data % 16
        wanted = reference.demod_bias_act(x, gain=2.0, channels_last=True)[0]
        assert difference(ops("DemodBiasAct", x, gain=2.0, channels_last=1)[0], wanted) < TOLERANCE[kind]
        wanted = reference.upfirdn2d(x, channels_last=True)
        assert difference(ops("UpFirDn2d", x, channels_last=1)[0], wanted) < TOLERANCE[kind]
        wanted = reference.upsample(x, mode="bilinear")
        assert difference(ops("Upsample", x, mode="bilinear")[0], wanted) < TOLERANCE[kind]


@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("normalize", [True, False])
def test_modulation_factors(ops: Ops, rng: np.random.Generator, demodulate: bool, normalize: bool) -> None:
    for channels, outputs in ((512, 64), (20, 33), (3, 1)):
        style = rng.standard_normal((3, channels)).astype(np.float32)
        squares = rng.uniform(0, 1, (channels, outputs)).astype(np.float32)
        norm = rng.uniform(0.5, 2, (1, outputs)).astype(np.float32)
        found = ops("ModulationFactors", style, squares, norm, outputs=2, demodulate=int(demodulate),
                    normalize=int(normalize))
        wanted = reference.modulation_factors(style, squares, norm, demodulate=demodulate, normalize=normalize)
        np.testing.assert_allclose(found[0], wanted[0], rtol=1e-6)
        np.testing.assert_allclose(found[1], np.broadcast_to(wanted[1], (3, outputs)), rtol=3e-6)


def test_modulation_factors_of_zeros_are_finite(ops: Ops) -> None:
    style, squares = np.zeros((1, 4), np.float32), np.ones((4, 2), np.float32)
    found = ops("ModulationFactors", style, squares, np.ones((1, 2), np.float32), outputs=2, normalize=1)
    assert not found[0].any() and np.isfinite(found[1]).all()


def test_modulation_factors_without_demodulation_need_no_squares(ops: Ops, rng: np.random.Generator) -> None:
    style, norm = rng.standard_normal((2, 5)).astype(np.float32), rng.uniform(1, 2, (1, 7)).astype(np.float32)
    found = ops("ModulationFactors", style, None, norm, outputs=2, demodulate=0, normalize=1)
    np.testing.assert_allclose(found[1], np.abs(style).max(1, keepdims=True) * norm, rtol=1e-6)


def test_the_factors_are_those_of_the_layers(rng: np.random.Generator) -> None:
    style, weight = torch.from_numpy(rng.standard_normal((2, 6))), torch.from_numpy(rng.standard_normal((4, 6, 3, 3)))
    squares = weight.square().sum((2, 3)).T
    np.testing.assert_allclose(reference.modulation_factors(style, squares)[1], demodulation(style, weight), rtol=1e-12)
    factors, gain = reference.modulation_factors(style, demodulate=False, normalize=True)
    normalized, peak = normalized_style(style)
    np.testing.assert_allclose(factors, normalized)
    np.testing.assert_allclose(gain, peak)


@TYPES
@pytest.mark.parametrize("size", [(16, 16), (3, 5)], ids=str)
def test_dequantize(ops: Ops, kind: type, size: tuple[int, int]) -> None:
    lr = np.resize(np.arange(256, dtype=np.uint8), (2, *size, 3))
    (found,) = ops("DequantizeLR", lr, to=1 if kind is np.float32 else 10, result=kind)
    assert found.dtype == kind
    wanted = dequantize(lr.astype(np.float32)).astype(kind)
    np.testing.assert_array_equal(found, wanted)
    if kind is np.float32:
        np.testing.assert_array_equal(quantize(found), lr)


@TYPES
def test_quantize_rounds_as_the_contract_says(ops: Ops, rng: np.random.Generator, kind: type) -> None:
    halves = ((np.arange(-3, 260) + 0.5) / 127.5 - 1).astype(kind)  # half a level, within rounding
    values = np.concatenate([halves, np.nextafter(halves, kind(9)), np.nextafter(halves, kind(-9)),
                             rng.uniform(-1.2, 1.2, 4000).astype(kind), [kind(np.inf), kind(-np.inf)]])
    for step in (24, 3):  # pieces of 16 bytes, and single ones
        x = values[: len(values) // step * step].reshape(1, -1, step // 3, 3)
        (found,) = ops("QuantizePicture", x, result=np.uint8)
        np.testing.assert_array_equal(found, quantize(x))


def test_shapes_are_inferred(ops_library: Path) -> None:
    ops = Ops(ops_library, "cpu")
    maps, lr = np.empty((1, 4, 6, 8), np.float16), np.empty((1, 4, 6, 3), np.uint8)
    nodes = {"InverseHaar": ([maps], {"channels_last": 1}, [8, 12, 2]),
             "Upsample": ([maps], {"mode": "nearest"}, [8, 12, 8]),
             "UpFirDn2d": ([maps], {"channels_last": 1, "pad": [1, 1, 1, 1]}, [3, 5, 8]),
             "DequantizeLR": ([lr], {"to": 10}, [4, 6, 3])}
    for op, (inputs, attributes, shape) in nodes.items():
        (output,) = ops.session(op, inputs, result=np.float16, **attributes).get_outputs()
        assert (output.shape, output.type) == (["batch", *shape], "tensor(float16)"), op


@pytest.mark.parametrize("shape", [["b", "h", "w", 3], [None, None, None, 3], None], ids=["named", "unnamed", "rank"])
def test_sizes_that_the_graph_leaves_open(ops_library: Path, shape: list[object] | None) -> None:
    nodes = [helper.make_node("DequantizeLR", ["lr"], ["values"], domain=library.DOMAIN, to=TensorProto.FLOAT16),
             helper.make_node("Upsample", ["values"], ["large"], domain=library.DOMAIN, mode="nearest"),
             helper.make_node("QuantizePicture", ["large"], ["hr"], domain=library.DOMAIN)]
    graph = helper.make_graph(nodes, "open", [helper.make_tensor_value_info("lr", TensorProto.UINT8, shape)],
                              [helper.make_tensor_value_info("hr", TensorProto.UINT8, None)])
    model = helper.make_model(graph, ir_version=8, opset_imports=[
        helper.make_opsetid("", 18), helper.make_opsetid(library.DOMAIN, 1)])
    options = onnxruntime.SessionOptions()
    library.register_library(options, path=ops_library)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for size in ((4, 5), (2, 3)):
        lr = np.resize(np.arange(256, dtype=np.uint8), (2, *size, 3))
        np.testing.assert_array_equal(session.run(None, {"lr": lr})[0], lr.repeat(2, 1).repeat(2, 2))


def test_empty_batches(ops_library: Path) -> None:
    ops = Ops(ops_library, "cpu")
    x = np.zeros((0, 4, 4, 8), np.float32)
    assert ops("DemodBiasAct", x, channels_last=1)[0].shape == (0, 4, 4, 8)
    assert ops("FilteredBiasAct", x, pad=[1, 1, 1, 1], channels_last=1)[0].shape == (0, 3, 3, 8)
    assert ops("UpFirDn2d", x, up=2, pad=[2, 1, 2, 1], channels_last=1)[0].shape == (0, 8, 8, 8)
    assert ops("InverseHaar", x, channels_last=1)[0].shape == (0, 8, 8, 2)
    assert ops("Upsample", x, mode="nearest")[0].shape == (0, 8, 8, 8)
    assert ops("QuantizePicture", x[..., :3], result=np.uint8)[0].shape == (0, 4, 4, 3)


X = np.ones((2, 4, 4, 8), np.float32)
REFUSED = {
    "noise": ("DemodBiasAct", [X, None, X[:, :, :, 0][:, None]], {"channels_last": 1},
              r"noise must be \[2, 4, 4, 1\], got \[2, 1, 4, 4\]"),
    "demodulation": ("DemodBiasAct", [X, X[:, 0, 0, :4]], {"channels_last": 1}, r"demodulation must be \[2, 8\]"),
    "rank": ("DemodBiasAct", [X[0]], {"channels_last": 1}, r"x must be \[B, H, W, C\]"),
    "layout": ("DemodBiasAct", [X], {"channels_last": 2}, "channels_last must be 0 or 1, got 2"),
    "filter": ("UpFirDn2d", [X[:, :2]], {"channels_last": 1}, "smaller than the filter"),
    "bands": ("InverseHaar", [X[..., :6]], {"channels_last": 1}, r"bands must be \[B, H, W, 4 C\]"),
    "mode": ("Upsample", [X], {"mode": "cubic"}, "mode must be nearest or bilinear, got 'cubic'"),
    "no mode": ("Upsample", [X], {}, "mode must be nearest or bilinear, got ''"),
    "styles": ("ModulationFactors", [X, X[0, 0]], {}, r"style must be \[B, C\]"),
    "squares": ("ModulationFactors", [X[0, 0], X[0, 0]], {}, r"squares must be \[8, O\], got \[4, 8\]"),
    "no squares": ("ModulationFactors", [X[0, 0], None, X[0, 0, :1]], {}, "with demodulate, squares must be given"),
    "norm": ("ModulationFactors", [X[0, 0], X.reshape(8, -1), X[0, 0]], {}, r"norm must be \[1, 32\], got \[4, 8\]"),
    "picture": ("QuantizePicture", [X], {"result": np.uint8}, r"x must be \[B, H, W, 3\], got \[.*4, 4, 8\]"),
    "lr": ("DequantizeLR", [X.astype(np.uint8)], {"result": np.float32}, r"lr must be \[B, H, W, 3\]"),
    "type": ("DequantizeLR", [X[..., :3].astype(np.uint8)], {"to": 11, "result": np.float32}, "to must be 1"),
}


@pytest.mark.parametrize(("op", "inputs", "attributes", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_does_not_fit_is_refused(ops_library: Path, op: str, inputs: list[np.ndarray | None],
                                      attributes: dict[str, object], message: str) -> None:
    inputs = [None if array is None else np.ascontiguousarray(array) for array in inputs]
    with pytest.raises(Exception, match=message):  # ONNX Runtime's errors have no common class
        Ops(ops_library, "cpu")(op, *inputs, **attributes)
