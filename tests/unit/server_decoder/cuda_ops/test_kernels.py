"""The ops of com.edgegrain in both layouts: kernels against their definition in float64, the definition against torch,
refusals.

The kernels' code is the same for CPU and GPU but for the launch; tests with "cuda" in their name need a GPU.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper

from codec_contract.pixels import dequantize, quantize
from export.decoder.served import normalized_style
from server_decoder.cuda_ops import library, reference
from server_decoder.mobile_stylegan import inverse_haar
from server_decoder.stylegan2.layers import BilinearFilter, activate, demodulation
from tests.custom_ops import TOLERANCE, TYPES, Ops, difference

TAPS = (0.1, 0.3, 0.5, 0.2)  # not symmetric: a filter the wrong way round shows
SIZES = {0: ((8, 8), (33, 33), (32, 40), (7, 3), (1, 1), (5, 64)), 1: ((8, 8), (9, 5), (1, 1), (3, 20))}
CHANNELS = {0: (6, 5, 8, 1), 1: (1, 3, 4, 8, 13, 16, 32)}
"""By channels_last. Rows of pixels, or channels, come in pieces of one, of 16 bytes, and of 16 (on the CPU)."""
PARTS = ("dnbs", "db", "", "ns", "dnb", "dnbs", "dnbs")
LAYOUTS = pytest.mark.parametrize("last", [0, 1], ids=["channels-first", "channels-last"])
PLACES = pytest.mark.parametrize(("last", "size"), [(last, size) for last in SIZES for size in SIZES[last]], ids=str)


def shape(last: int, channels: int, size: tuple[int, int], batch: int = 2) -> tuple[int, ...]:
    return (batch, *size, channels) if last else (batch, channels, *size)


def random_tail(rng: np.random.Generator, kind: type, of: tuple[int, ...], last: int, parts: str = "dnbs",
                shared: bool = False) -> list[np.ndarray | None]:
    """Demodulation, noise, bias and style for an activation of this shape; those whose initial is in ``parts``."""
    batch, channels = of[0], of[3 if last else 1]
    noise = shape(last, 1, of[1:3] if last else of[2:], 1 if shared else batch)
    made = {"d": rng.uniform(0.2, 2, (batch, channels)).astype(np.float32),
            "n": rng.standard_normal(noise).astype(kind), "b": rng.standard_normal(channels).astype(np.float32),
            "s": rng.standard_normal((batch, channels)).astype(np.float32)}
    return [made[part] if part in parts else None for part in "dnbs"]


def check_tail(ops: Ops, op: str, x: np.ndarray, tail: list[np.ndarray | None], wanted: tuple[np.ndarray, np.ndarray],
               settings: dict[str, object]) -> None:
    """One output, and both outputs where there is a style."""
    kind = x.dtype.type
    (found,) = ops(op, x, *tail, **settings)
    assert found.dtype == kind and difference(found, wanted[1]) < TOLERANCE[kind]
    if tail[3] is not None:
        both = ops(op, x, *tail, outputs=2, **settings)
        assert difference(both[0], wanted[0]) < TOLERANCE[kind] and difference(both[1], found) < TOLERANCE[kind]


@TYPES
@PLACES
def test_demod_bias_act(ops: Ops, rng: np.random.Generator, kind: type, last: int, size: tuple[int, int]) -> None:
    for channels, parts in zip(CHANNELS[last], PARTS, strict=False):
        x = rng.standard_normal(shape(last, channels, size)).astype(kind)
        tail = random_tail(rng, kind, x.shape, last, parts, shared=channels == 8)
        settings = {"slope": 0.2, "gain": 2**0.5, "clamp": 1.5 if parts == "db" else 0.0, "channels_last": last}
        check_tail(ops, "DemodBiasAct", x, tail, reference.demod_bias_act(x, *tail, **settings), settings)


@TYPES
@LAYOUTS
@pytest.mark.parametrize("size", [(9, 9), (33, 33), (11, 65), (20, 129), (70, 3), (4, 4)], ids=str)
def test_filtered_bias_act(ops: Ops, rng: np.random.Generator, kind: type, last: int, size: tuple[int, int]) -> None:
    for channels, parts, pad in zip((3, 8, 32) if last else (6, 5, 2), ("dnbs", "n", "db"),
                                    ([1, 1, 1, 1], [2, 1, 0, 3], [0, 2, 3, 1]), strict=True):
        x = rng.standard_normal(shape(last, channels, size)).astype(kind)
        out = shape(last, channels, (size[0] + pad[2] + pad[3] - 3, size[1] + pad[0] + pad[1] - 3))
        tail = random_tail(rng, kind, out, last, parts, shared=parts == "n")
        settings = {"taps": TAPS, "filter_gain": 4.0, "pad": pad, "slope": 0.2, "gain": 2**0.5,
                    "clamp": 2.0 if parts == "db" else 0.0, "channels_last": last}
        check_tail(ops, "FilteredBiasAct", x, tail, reference.filtered_bias_act(x, *tail, **settings), settings)


@TYPES
@LAYOUTS
@pytest.mark.parametrize(("up", "down"), [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_upfirdn2d(ops: Ops, rng: np.random.Generator, kind: type, last: int, up: int, down: int) -> None:
    for size, pad, channels in (((16, 16), [2, 1, 2, 1], 3), ((33, 17), [1, 1, 1, 1], 8), ((6, 5), [3, 0, 1, 2], 16),
                                ((1, 4), [2, 2, 3, 3], 3)):
        x = rng.standard_normal(shape(last, channels, size)).astype(kind)
        settings = {"taps": TAPS, "filter_gain": 4.0, "up": up, "down": down, "pad": pad, "channels_last": last}
        (found,) = ops("UpFirDn2d", x, **settings)
        assert difference(found, reference.upfirdn2d(x, **settings)) < TOLERANCE[kind]


@TYPES
@PLACES
def test_inverse_haar(ops: Ops, rng: np.random.Generator, kind: type, last: int, size: tuple[int, int]) -> None:
    for channels in CHANNELS[last]:
        bands = rng.standard_normal(shape(last, 4 * channels, size)).astype(kind)
        style = rng.standard_normal((2, 4 * channels)).astype(np.float32) if channels not in (4, 5) else None
        (found,) = ops("InverseHaar", bands, style, scale=0.5, channels_last=last)
        wanted = reference.inverse_haar(bands, style, scale=0.5, channels_last=last)
        assert difference(found, wanted) < TOLERANCE[kind]


@TYPES
@pytest.mark.parametrize("size", SIZES[1], ids=str)
@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_upsample(ops: Ops, rng: np.random.Generator, kind: type, size: tuple[int, int], mode: str) -> None:
    for channels in CHANNELS[1]:
        x = rng.standard_normal((2, *size, channels)).astype(kind)
        (found,) = ops("Upsample", x, mode=mode)
        assert difference(found, reference.upsample(x, mode=mode)) < TOLERANCE[kind]
        if mode == "nearest":
            np.testing.assert_array_equal(found[:, ::2, 1::2], x)


@LAYOUTS
def test_large_maps_on_several_threads(ops: Ops, rng: np.random.Generator, last: int) -> None:
    x = rng.standard_normal(shape(last, 24, (65, 129))).astype(np.float32)
    tail = random_tail(rng, np.float32, shape(last, 24, (64, 128)), last)
    found, alone = (ops("FilteredBiasAct", x, *tail, pad=[1, 1, 1, 1], channels_last=last, threads=threads)[0]
                    for threads in (2, 1))
    assert difference(found, reference.filtered_bias_act(x, *tail, pad=(1, 1, 1, 1), channels_last=last)[1]) < 1e-5
    assert difference(found, alone) < 1e-5  # where a thread's share ends, a kernel's rest may round differently


@TYPES
@LAYOUTS
def test_unaligned_memory(ops_library: Path, rng: np.random.Generator, kind: type, last: int) -> None:
    # ONNX Runtime reads a caller's array where it lies; these begin four or two bytes beyond a multiple of sixteen.
    ops, sizes = Ops(ops_library, "cpu"), shape(last, 8, (6, 6))
    x = np.empty(np.prod(sizes) + 1, kind)[1:].reshape(sizes)
    x[:] = rng.standard_normal(sizes)
    assert x.ctypes.data % 16
    for op, wanted in (("DemodBiasAct", reference.demod_bias_act(x, channels_last=last)[0]),
                       ("UpFirDn2d", reference.upfirdn2d(x, channels_last=last)),
                       ("InverseHaar", reference.inverse_haar(x, channels_last=last))):
        assert difference(ops(op, x, channels_last=last)[0], wanted) < TOLERANCE[kind]
    if last:
        found = ops("Upsample", x, mode="bilinear")[0]
        assert difference(found, reference.upsample(x, mode="bilinear")) < TOLERANCE[kind]


@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("normalize", [True, False])
def test_modulation_factors(ops: Ops, rng: np.random.Generator, demodulate: bool, normalize: bool) -> None:
    for channels, outputs in ((512, 64), (20, 33), (3, 1)):
        style = rng.standard_normal((3, channels)).astype(np.float32)
        squares = rng.uniform(0, 1, (channels, outputs)).astype(np.float32)
        norm = rng.uniform(0.5, 2, (1, outputs)).astype(np.float32)
        wanted = reference.modulation_factors(style, squares, norm, demodulate=demodulate, normalize=normalize)
        for given in (squares, None) if not demodulate else (squares,):  # without demodulation no squares are needed
            found = ops("ModulationFactors", style, given, norm, outputs=2, demodulate=int(demodulate),
                        normalize=int(normalize))
            np.testing.assert_allclose(found[0], wanted[0], rtol=1e-6)
            np.testing.assert_allclose(found[1], np.broadcast_to(wanted[1], (3, outputs)), rtol=3e-6)


def test_modulation_factors_of_zeros_are_finite(ops: Ops) -> None:
    style, squares = np.zeros((1, 4), np.float32), np.ones((4, 2), np.float32)
    found = ops("ModulationFactors", style, squares, np.ones((1, 2), np.float32), outputs=2, normalize=1)
    assert not found[0].any() and np.isfinite(found[1]).all()


@TYPES
@pytest.mark.parametrize("size", [(16, 16), (3, 5)], ids=str)
def test_dequantize(ops: Ops, kind: type, size: tuple[int, int]) -> None:
    lr = np.resize(np.arange(256, dtype=np.uint8), (2, *size, 3))
    (found,) = ops("DequantizeLR", lr, to=1 if kind is np.float32 else 10, result=kind)
    assert found.dtype == kind
    np.testing.assert_array_equal(found, dequantize(lr.astype(np.float32)).astype(kind))
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


def test_every_float16_passes_through_unchanged(ops: Ops) -> None:
    every = np.arange(65536, dtype=np.uint16).view(np.float16).reshape(1, 1, 256, 256)
    (found,) = ops("DemodBiasAct", every, slope=1.0)
    np.testing.assert_array_equal(found, every)  # NaN equals NaN, 0 equals -0


def test_float16_rounds_as_ieee_754_says(ops: Ops) -> None:
    every = np.arange(65536, dtype=np.uint16).view(np.float16)
    numbers = np.sort(every[np.isfinite(every)])
    between = (numbers[:-1].astype(np.float32) + numbers[1:].astype(np.float32)) / 2  # exact: ties
    infinity = np.float32(np.inf)
    limits = np.float32([65519.99, 65520, 65536, 1e30, -1e30, 1e-9, -1e-9])
    values = np.concatenate([between, np.nextafter(between, infinity), np.nextafter(between, -infinity), limits])
    # A float32 enters through the demodulation, one per channel.
    with np.errstate(over="ignore"):
        wanted = values.astype(np.float16)
    (found,) = ops("DemodBiasAct", np.ones((1, len(values), 1, 1), np.float16), values[None], slope=1.0)
    np.testing.assert_array_equal(found.ravel(), wanted)


def test_the_clamp_keeps_float16_finite_and_not_a_number_visible(ops: Ops) -> None:
    x = np.full((1, 2, 4, 4), 60000, np.float16)
    given = (x, np.float32([[4, -40]]), None, None, np.float32([[200, 1]]))
    assert np.isinf(ops("DemodBiasAct", *given, gain=2**0.5)[0]).all()
    (clamped,) = ops("DemodBiasAct", *given, gain=2**0.5, clamp=256.0)
    np.testing.assert_array_equal(clamped[0, :, 0, 0], np.float16([256 * 200, -256]))
    assert np.isnan(ops("DemodBiasAct", np.full((1, 1, 4, 4), np.nan, np.float32), clamp=1.0)[0]).all()


def test_shapes_are_inferred(ops_library: Path) -> None:
    ops = Ops(ops_library, "cpu")
    maps, lr = np.empty((1, 4, 6, 8), np.float16), np.empty((1, 4, 6, 3), np.uint8)
    nodes = {"InverseHaar": ([maps], {"channels_last": 1}, [8, 12, 2]),
             "Upsample": ([maps], {"mode": "nearest"}, [8, 12, 8]),
             "UpFirDn2d": ([maps], {"channels_last": 1, "pad": [1, 1, 1, 1]}, [3, 5, 8]),
             "DequantizeLR": ([lr], {"to": 10}, [4, 6, 3])}
    for op, (inputs, attributes, expected) in nodes.items():
        (output,) = ops.session(op, inputs, result=np.float16, **attributes).get_outputs()
        assert (output.shape, output.type) == (["batch", *expected], "tensor(float16)"), op


@pytest.mark.parametrize("lr_shape", [["b", "h", "w", 3], [None, None, None, 3], None])
def test_sizes_that_the_graph_leaves_open(ops_library: Path, lr_shape: list[object] | None) -> None:
    nodes = [helper.make_node("DequantizeLR", ["lr"], ["values"], domain=library.DOMAIN, to=TensorProto.FLOAT16),
             helper.make_node("Upsample", ["values"], ["large"], domain=library.DOMAIN, mode="nearest"),
             helper.make_node("QuantizePicture", ["large"], ["hr"], domain=library.DOMAIN)]
    graph = helper.make_graph(nodes, "open", [helper.make_tensor_value_info("lr", TensorProto.UINT8, lr_shape)],
                              [helper.make_tensor_value_info("hr", TensorProto.UINT8, None)])
    model = helper.make_model(graph, ir_version=8, opset_imports=[
        helper.make_opsetid("", 18), helper.make_opsetid(library.DOMAIN, 1)])
    options = onnxruntime.SessionOptions()
    library.register_library(options, path=ops_library)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for size in ((4, 5), (2, 3)):
        lr = np.resize(np.arange(256, dtype=np.uint8), (2, *size, 3))
        np.testing.assert_array_equal(session.run(None, {"lr": lr})[0], lr.repeat(2, 1).repeat(2, 2))


@LAYOUTS
def test_empty_batches(ops_library: Path, last: int) -> None:
    ops, x = Ops(ops_library, "cpu"), np.zeros(shape(last, 8, (4, 4), 0), np.float32)
    for op, settings, channels, side in (
            ("DemodBiasAct", {}, 8, 4), ("FilteredBiasAct", {"pad": [1, 1, 1, 1]}, 8, 3), ("InverseHaar", {}, 2, 8),
            ("UpFirDn2d", {"up": 2, "pad": [2, 1, 2, 1]}, 8, 8)):
        assert ops(op, x, channels_last=last, **settings)[0].shape == shape(last, channels, (side, side), 0)
    if last:
        assert ops("Upsample", x, mode="nearest")[0].shape == (0, 8, 8, 8)
        assert ops("QuantizePicture", x[..., :3], result=np.uint8)[0].shape == (0, 4, 4, 3)


ONES = np.ones((2, 8, 4, 4), np.float32)
X = np.ones((2, 4, 4, 8), np.float32)
LAST = {"channels_last": 1}
REFUSED = [
    ("DemodBiasAct", [ONES, ONES[:, :7, 0, 0]], {}, r"demodulation must be \[2, 8\], got \[2, 7\]"),
    ("DemodBiasAct", [ONES, None, ONES[:, :2]], {}, r"noise must be \[2, 1, 4, 4\], got \[2, 2, 4, 4\]"),
    ("DemodBiasAct", [ONES, None, None, ONES[0]], {}, r"bias must be \[8\], got \[8, 4, 4\]"),
    ("DemodBiasAct", [ONES, None, None, None, ONES[:1, :, 0, 0]], {}, r"style must be \[2, 8\], got \[1, 8\]"),
    ("DemodBiasAct", [ONES[0]], {}, r"x must be \[B, C, H, W\], got \[8, 4, 4\]"),
    ("DemodBiasAct", [ONES], {"clamp": -1.0}, "clamp must not be negative"),
    ("DemodBiasAct", [X, None, X[:, :, :, 0][:, None]], LAST, r"noise must be \[2, 4, 4, 1\], got \[2, 1, 4, 4\]"),
    ("DemodBiasAct", [X[0]], LAST, r"x must be \[B, H, W, C\]"),
    ("DemodBiasAct", [X], {"channels_last": 2}, "channels_last must be 0 or 1, got 2"),
    ("FilteredBiasAct", [ONES], {"up": 2}, "no up and no down"),
    ("FilteredBiasAct", [ONES, None, ONES[:, :1]], {}, r"noise must be \[2, 1, 1, 1\]"),
    ("UpFirDn2d", [ONES[:, :, :2]], {}, "smaller than the filter"),
    ("UpFirDn2d", [X[:, :2]], LAST, "smaller than the filter"),
    ("UpFirDn2d", [ONES], {"up": 3}, "up and down must be 1 or 2"),
    ("UpFirDn2d", [ONES], {"pad": [1, 1]}, "pad must have 4 values, got 2"),
    ("UpFirDn2d", [ONES], {"pad": [-1, 1, 1, 1]}, "pad must lie in 0...64"),
    ("UpFirDn2d", [ONES], {"taps": [1.0, 2.0, 1.0]}, "taps must have 4 values, got 3"),
    ("InverseHaar", [ONES[:, :6]], {}, r"bands must be \[B, 4 C, H, W\], got \[2, 6, 4, 4\]"),
    ("InverseHaar", [ONES, ONES[:, :2, 0, 0]], {}, r"style must be \[2, 8\], got \[2, 2\]"),
    ("Upsample", [X], {"mode": "cubic"}, "mode must be nearest or bilinear, got 'cubic'"),
    ("ModulationFactors", [X, X[0, 0]], {}, r"style must be \[B, C\]"),
    ("ModulationFactors", [X[0, 0], X[0, 0]], {}, r"squares must be \[8, O\], got \[4, 8\]"),
    ("ModulationFactors", [X[0, 0], None, X[0, 0, :1]], {}, "with demodulate, squares must be given"),
    ("ModulationFactors", [X[0, 0], X.reshape(8, -1), X[0, 0]], {}, r"norm must be \[1, 32\], got \[4, 8\]"),
    ("QuantizePicture", [X], {"result": np.uint8}, r"x must be \[B, H, W, 3\], got \[.*4, 4, 8\]"),
    ("DequantizeLR", [X.astype(np.uint8)], {"result": np.float32}, r"lr must be \[B, H, W, 3\]"),
    ("DequantizeLR", [X[..., :3].astype(np.uint8)], {"to": 11, "result": np.float32}, "to must be 1"),
    ("DemodBiasAct", [ONES], {"outputs": 2}, "a second output needs a style")]


def test_the_definitions_are_the_layers(rng: np.random.Generator) -> None:
    def same(found: np.ndarray, wanted: torch.Tensor) -> None:
        np.testing.assert_allclose(found, wanted, atol=1e-12)

    x, noise, bias = (torch.from_numpy(rng.standard_normal(of)) for of in ((2, 8, 9, 9), (1, 1, 9, 9), (8,)))
    gains = torch.from_numpy(rng.uniform(0.5, 2, (2, 8)))
    activation = activate(x * gains[:, :, None, None] + noise, bias)
    plain, modulated = reference.demod_bias_act(x, gains, noise, bias, gains, gain=2**0.5)
    same(plain, activation)
    same(modulated, activation * gains[:, :, None, None])
    bilinear = BilinearFilter().double()
    same(reference.upfirdn2d(x, filter_gain=4, pad=(1, 1, 1, 1)), bilinear(x, padding=1, gain=4.0))
    same(reference.upfirdn2d(x, filter_gain=4, up=2, pad=(2, 1, 2, 1)), bilinear.upsample(x))
    same(reference.upfirdn2d(x, down=2, pad=(1, 1, 1, 1)), bilinear(x, padding=1, stride=2))
    same(reference.inverse_haar(x, gains, scale=0.5), inverse_haar(x * 0.5 * gains[:, :, None, None]))
    for mode in ("nearest", "bilinear"):
        found = reference.to_nchw(reference.upsample(x.permute(0, 2, 3, 1).numpy(), mode=mode))
        same(found, F.interpolate(x, scale_factor=2, mode=mode))
    style, weight = torch.from_numpy(rng.standard_normal((2, 6))), torch.from_numpy(rng.standard_normal((4, 6, 3, 3)))
    same(reference.modulation_factors(style, weight.square().sum((2, 3)).T)[1], demodulation(style, weight))
    for found, wanted in zip(reference.modulation_factors(style, demodulate=False, normalize=True),
                             normalized_style(style), strict=True):
        same(found, wanted)
