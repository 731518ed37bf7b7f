"""The ops of com.edgegrain: kernels against their definition in float64, which the tests of fused decoders compare with
torch.

The kernels' code is the same for CPU and GPU but for the launch; tests with "cuda" in their name need a GPU.
"""

from pathlib import Path

import numpy as np
import onnx
import pytest

from codec_contract.pixels import dequantize, quantize
from server_decoder.cuda_ops import library
from tests import fused_ops as reference
from tests.unit.server_decoder.cuda_ops.conftest import TOLERANCE, TYPES, Ops, difference, random_rest

TAPS = (0.1, 0.3, 0.5, 0.2)  # not symmetric: a filter the wrong way round shows
SIZES = pytest.mark.parametrize("size", [(8, 8), (9, 5), (1, 1), (3, 20)], ids=str)
CHANNELS = (1, 3, 4, 8, 13, 16, 32)
"""Channels come in pieces of one, of 16 bytes, and of 16 (on the CPU)."""
LAST = {"channels_last": 1}


def random_tail(rng: np.random.Generator, kind: type, of: tuple[int, ...]) -> list[np.ndarray]:
    """Demodulation, noise, bias and style for an activation of this shape."""
    return random_rest(rng, kind, of)[:4]


@TYPES
@pytest.mark.parametrize("size", [(9, 9), (33, 33), (11, 65), (20, 129), (70, 3), (4, 4)], ids=str)
def test_filtered_bias_act(ops: Ops, rng: np.random.Generator, kind: type, size: tuple[int, int]) -> None:
    for channels, pad in zip((3, 8, 32), ([1, 1, 1, 1], [2, 1, 0, 3], [0, 2, 3, 1]), strict=True):
        x = rng.standard_normal((2, *size, channels)).astype(kind)
        tail = random_tail(rng, kind, (2, size[0] + pad[2] + pad[3] - 3, size[1] + pad[0] + pad[1] - 3, channels))
        settings = {"taps": TAPS, "filter_gain": 4.0, "pad": pad, "slope": 0.2, "gain": 2**0.5}
        settings["clamp"] = 2.0 if channels == 32 else 0.0
        (found,) = ops("FilteredBiasAct", x, *tail, **settings, **LAST)
        assert found.dtype == kind
        assert difference(found, reference.filtered_bias_act(x, *tail, **settings)) < TOLERANCE[kind]


def test_upfirdn2d(ops: Ops, rng: np.random.Generator) -> None:
    for size, pad, channels in (
        ((16, 16), [2, 1, 2, 1], 3),
        ((33, 17), [1, 1, 1, 1], 8),
        ((6, 5), [3, 0, 1, 2], 16),
        ((1, 4), [2, 2, 3, 3], 3),
    ):
        x = rng.standard_normal((2, *size, channels)).astype(np.float32)
        settings = {"taps": TAPS, "filter_gain": 4.0, "up": 2, "pad": pad}
        (found,) = ops("UpFirDn2d", x, **settings, **LAST)
        assert difference(found, reference.upfirdn2d(x, **settings)) < TOLERANCE[np.float32]


@TYPES
@SIZES
def test_inverse_haar(ops: Ops, rng: np.random.Generator, kind: type, size: tuple[int, int]) -> None:
    for channels in CHANNELS:
        bands = rng.standard_normal((2, *size, 4 * channels)).astype(kind)
        style = rng.standard_normal((2, 4 * channels)).astype(np.float32) if channels != 4 else None
        (found,) = ops("InverseHaar", bands, style, scale=0.5, **LAST)
        assert difference(found, reference.inverse_haar(bands, style, scale=0.5)) < TOLERANCE[kind]


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


def test_large_maps_on_several_threads(ops: Ops, rng: np.random.Generator) -> None:
    x = rng.standard_normal((2, 65, 129, 24)).astype(np.float32)
    tail = random_tail(rng, np.float32, (2, 64, 128, 24))
    steps = {"pad": [1, 1, 1, 1], **LAST}
    found, alone = (ops("FilteredBiasAct", x, *tail, threads=threads, **steps)[0] for threads in (2, 1))
    assert difference(found, reference.filtered_bias_act(x, *tail, pad=(1, 1, 1, 1))) < 1e-5
    assert difference(found, alone) < 1e-5  # where a thread's share ends, a kernel's rest may round differently


@TYPES
def test_unaligned_memory(ops_library: Path, rng: np.random.Generator, kind: type) -> None:
    # ONNX Runtime reads a caller's array where it lies; these begin four or two bytes beyond a multiple of sixteen.
    ops, sizes = Ops(ops_library, "cpu"), ((2, 6, 6, 8), (5, 3, 3, 8))
    x, weight = (np.empty(np.prod(of) + 1, kind)[1:].reshape(of) for of in sizes)
    x[:], weight[:] = map(rng.standard_normal, sizes)
    assert x.ctypes.data % 16 and weight.ctypes.data % 16
    tail = random_tail(rng, kind, (2, 3, 3, 8))
    for op, inputs, settings, wanted in (
        ("FusedConv", [x, weight], {}, reference.fused_conv(x, weight)[0]),
        ("FilteredBiasAct", [x, *tail], LAST, reference.filtered_bias_act(x, *tail)),
        ("InverseHaar", [x], LAST, reference.inverse_haar(x)),
        ("Upsample", [x], {"mode": "bilinear"}, reference.upsample(x, mode="bilinear")),
    ):
        assert difference(ops(op, *inputs, **settings)[0], wanted) < TOLERANCE[kind]


@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("normalize", [True, False])
def test_modulation_factors(ops: Ops, rng: np.random.Generator, demodulate: bool, normalize: bool) -> None:
    for channels, outputs in ((512, 64), (20, 33), (3, 1)):
        style = rng.standard_normal((3, channels)).astype(np.float32)
        squares = rng.uniform(0, 1, (channels, outputs)).astype(np.float32)
        norm = rng.uniform(0.5, 2, (1, outputs)).astype(np.float32)
        steps = {"demodulate": int(demodulate), "normalize": int(normalize)}
        wanted = reference.modulation_factors(style, squares, norm, **steps)
        for given in (squares, None) if not demodulate else (squares,):  # without demodulation no squares are needed
            found = ops("ModulationFactors", style, given, norm, outputs=2, **steps)
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
    near = [halves, np.nextafter(halves, kind(9)), np.nextafter(halves, kind(-9))]
    values = np.concatenate([*near, rng.uniform(-1.2, 1.2, 4000).astype(kind), [kind(np.inf), kind(-np.inf)]])
    for step in (24, 3):  # pieces of 16 bytes, and single ones
        x = values[: len(values) // step * step].reshape(1, -1, step // 3, 3)
        (found,) = ops("QuantizePicture", x, result=np.uint8)
        np.testing.assert_array_equal(found, quantize(x))


def test_every_float16_passes_through_unchanged(ops: Ops) -> None:
    every = np.arange(65536, dtype=np.uint16).view(np.float16).reshape(1, 1, 1, 65536)
    (found,) = ops("Upsample", every, mode="nearest")
    np.testing.assert_array_equal(found, np.broadcast_to(every, (1, 2, 2, 65536)))  # NaN equals NaN, 0 equals -0


def test_float16_rounds_as_ieee_754_says(ops: Ops) -> None:
    every = np.arange(65536, dtype=np.uint16).view(np.float16)
    numbers = np.sort(every[np.isfinite(every)])
    between = (numbers[:-1].astype(np.float32) + numbers[1:].astype(np.float32)) / 2  # exact: ties
    infinity = np.float32(np.inf)
    limits = np.float32([65519.99, 65520, 65536, 1e30, -1e30, 1e-9, -1e-9])
    values = np.concatenate([between, np.nextafter(between, infinity), np.nextafter(between, -infinity), limits])
    # A float32 enters through the style, one per channel of the first band.
    with np.errstate(over="ignore"):
        wanted = values.astype(np.float16)
    style = np.concatenate([values, np.zeros(3 * len(values), np.float32)])[None]
    (found,) = ops("InverseHaar", np.ones((1, 1, 1, style.size), np.float16), style, **LAST)
    np.testing.assert_array_equal(found, np.broadcast_to(wanted, (1, 2, 2, len(values))))


def test_the_clamp_keeps_float16_finite_and_not_a_number_visible(ops: Ops) -> None:
    def filtered(value: float, kind: type, **settings: float) -> np.ndarray:
        tail = (np.float32([[4, -40]]), np.zeros((1, 1, 1, 1), kind), np.zeros(2, np.float32), np.float32([[200, 1]]))
        return ops("FilteredBiasAct", np.full((1, 4, 4, 2), value, kind), *tail, gain=2**0.5, **settings, **LAST)[0]

    assert np.isinf(filtered(60000, np.float16)).all()
    np.testing.assert_array_equal(filtered(60000, np.float16, clamp=256.0).ravel(), np.float16([256 * 200, -256]))
    assert np.isnan(filtered(np.nan, np.float32, clamp=1.0)).all()


def test_shapes_are_inferred(ops_library: Path, rng: np.random.Generator) -> None:
    ops = Ops(ops_library, "cpu")
    maps, lr = np.empty((1, 4, 6, 8), np.float16), np.empty((1, 4, 6, 3), np.uint8)
    tail = random_tail(rng, np.float16, (1, 3, 5, 8))
    nodes = {
        "InverseHaar": ([maps], LAST, [8, 12, 2]),
        "Upsample": ([maps], {"mode": "nearest"}, [8, 12, 8]),
        "FilteredBiasAct": ([maps, *tail], {"pad": [1, 1, 1, 1], **LAST}, [3, 5, 8]),
        "DequantizeLR": ([lr], {"to": 10}, [4, 6, 3]),
    }
    for op, (inputs, attributes, expected) in nodes.items():
        (output,) = ops.session(op, inputs, result=np.float16, **attributes).get_outputs()
        assert (output.shape, output.type) == (["batch", *expected], "tensor(float16)"), op
    (output,) = ops.session("UpFirDn2d", [maps.astype(np.float32)], up=2, pad=[2, 1, 2, 1], **LAST).get_outputs()
    assert (output.shape, output.type) == (["batch", 8, 12, 8], "tensor(float)")


@pytest.mark.parametrize("lr", ["uint8[b, h, w, 3]", "uint8[?, ?, ?, 3]", "uint8[]"])
def test_sizes_that_the_graph_leaves_open(ops_library: Path, lr: str) -> None:
    model = f"""<ir_version: 8, opset_import: ["" : 18, "{library.DOMAIN}" : 1]> open ({lr} lr) => (uint8[] hr) {{
        values = {library.DOMAIN}.DequantizeLR <to = 10> (lr)
        large = {library.DOMAIN}.Upsample <mode = "nearest"> (values)
        hr = {library.DOMAIN}.QuantizePicture(large)
    }}"""
    session = Ops(ops_library, "cpu").opened(onnx.parser.parse_model(model))
    for size in ((4, 5), (2, 3)):
        levels = np.resize(np.arange(256, dtype=np.uint8), (2, *size, 3))
        np.testing.assert_array_equal(session.run(None, {"lr": levels})[0], levels.repeat(2, 1).repeat(2, 2))


def test_empty_batches(ops_library: Path, rng: np.random.Generator) -> None:
    ops, x = Ops(ops_library, "cpu"), np.zeros((0, 4, 4, 8), np.float32)
    tail = random_tail(rng, np.float32, (0, 3, 3, 8))
    for op, inputs, settings, wanted in (
        ("FilteredBiasAct", [x, *tail], {"pad": [1, 1, 1, 1], **LAST}, (3, 3, 8)),
        ("UpFirDn2d", [x], {"up": 2, "pad": [2, 1, 2, 1], **LAST}, (8, 8, 8)),
        ("InverseHaar", [x], LAST, (8, 8, 2)),
        ("Upsample", [x], {"mode": "nearest"}, (8, 8, 8)),
        ("QuantizePicture", [x[..., :3]], {}, (4, 4, 3)),
    ):
        kind = np.uint8 if op == "QuantizePicture" else np.float32
        assert ops(op, *inputs, result=kind, **settings)[0].shape == (0, *wanted)


X = np.ones((2, 4, 4, 8), np.float32)
TAIL = [X[:, 0, 0], X[:1, :1, :1, :1], X[0, 0, 0], X[:, 0, 0]]
REFUSED = [
    ("FilteredBiasAct", [X, X[:, 0, 0, :7], *TAIL[1:]], LAST, r"demodulation must be \[2, 8\], got \[2, 7\]"),
    ("FilteredBiasAct", [X, TAIL[0], X[:, :1, :1, :1], *TAIL[2:]], LAST, r"noise must be \[1, 1, 1, 1\], got \[2, 1"),
    ("FilteredBiasAct", [X, *TAIL[:2], X[0], TAIL[3]], LAST, r"bias must be \[8\], got \[4, 4, 8\]"),
    ("FilteredBiasAct", [X, *TAIL[:3], X[:1, 0, 0]], LAST, r"style must be \[2, 8\], got \[1, 8\]"),
    ("FilteredBiasAct", [X[0], *TAIL], LAST, r"x must be \[B, H, W, C\], got \[.*4, 8\]"),
    ("FilteredBiasAct", [X, *TAIL], {"clamp": -1.0, **LAST}, "clamp must not be negative"),
    ("FilteredBiasAct", [X[:, :2], *TAIL], LAST, "smaller than the filter"),
    ("FilteredBiasAct", [X, *TAIL], {"pad": [1, 1], **LAST}, "pad must have 4 values, got 2"),
    ("FilteredBiasAct", [X, *TAIL], {"pad": [-1, 1, 1, 1], **LAST}, "pad must lie in 0...64"),
    ("FilteredBiasAct", [X, *TAIL], {"taps": [1.0, 2.0, 1.0], **LAST}, "taps must have 4 values, got 3"),
    ("FilteredBiasAct", [X, *TAIL], {}, "channels_last must be 1; export the decoder again"),
    ("UpFirDn2d", [X], {"up": 2}, "channels_last must be 1"),
    ("UpFirDn2d", [X], LAST, "up must be 2"),
    ("InverseHaar", [X], {}, "channels_last must be 1"),
    ("InverseHaar", [X[..., :6]], LAST, r"bands must be \[B, H, W, 4 C\], got \[.*4, 4, 6\]"),
    ("InverseHaar", [X, X[:, 0, 0, :2]], LAST, r"style must be \[2, 8\], got \[2, 2\]"),
    ("Upsample", [X], {"mode": "cubic"}, "mode must be nearest or bilinear, got 'cubic'"),
    ("ModulationFactors", [X, X[0, 0]], {}, r"style must be \[B, C\]"),
    ("ModulationFactors", [X[0, 0], X[0, 0]], {}, r"squares must be \[8, O\], got \[4, 8\]"),
    ("ModulationFactors", [X[0, 0], None, X[0, 0, :1]], {}, "with demodulate, squares must be given"),
    ("ModulationFactors", [X[0, 0], X.reshape(8, -1), X[0, 0]], {}, r"norm must be \[1, 32\], got \[4, 8\]"),
    ("QuantizePicture", [X], {"result": np.uint8}, r"x must be \[B, H, W, 3\], got \[.*4, 4, 8\]"),
    ("DequantizeLR", [X.astype(np.uint8)], {"result": np.float32}, r"lr must be \[B, H, W, 3\]"),
    ("DequantizeLR", [X[..., :3].astype(np.uint8)], {"to": 11, "result": np.float32}, "to must be 1"),
]
