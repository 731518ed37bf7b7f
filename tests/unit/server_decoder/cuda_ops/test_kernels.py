"""The ops of com.edgegrain: kernels against their definition in float64, the definition against torch, refusals.

The kernels' code is the same for CPU and GPU but for the launch; tests with "cuda" in their name need a GPU.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from server_decoder.cuda_ops import reference
from server_decoder.mobile_stylegan.generator import inverse_haar
from server_decoder.stylegan2.layers import BilinearFilter, activate
from tests.custom_ops import TOLERANCE, TYPES, Ops, difference

TAPS = (0.1, 0.3, 0.5, 0.2)  # not symmetric: a filter the wrong way round shows
SIZES = ((4, 4), (8, 8), (16, 16), (33, 33), (32, 40), (7, 3), (1, 1), (5, 64))


def random_tail(rng: np.random.Generator, kind: type, shape: tuple[int, ...], parts: str, shared_noise: bool = False
                ) -> list[np.ndarray | None]:
    """Demodulation, noise, bias and style for an activation of this shape; those whose initial is in ``parts``."""
    batch, channels, height, width = shape
    noise = rng.standard_normal((1 if shared_noise else batch, 1, height, width)).astype(kind)
    made = {"d": rng.uniform(0.2, 2, (batch, channels)).astype(np.float32), "n": noise,
            "b": rng.standard_normal(channels).astype(np.float32),
            "s": rng.standard_normal((batch, channels)).astype(np.float32)}
    return [made[part] if part in parts else None for part in "dnbs"]


def check_tail(ops: Ops, op: str, x: np.ndarray, tail: list[np.ndarray | None], wanted: tuple[np.ndarray, np.ndarray],
               settings: dict[str, object]) -> None:
    """One output, and both outputs where there is a style."""
    kind = x.dtype.type
    (found,) = ops(op, x, *tail, **settings)
    assert found.dtype == kind
    assert difference(found, wanted[1]) < TOLERANCE[kind]
    if tail[3] is not None:
        both = ops(op, x, *tail, outputs=2, **settings)
        assert difference(both[0], wanted[0]) < TOLERANCE[kind]
        assert difference(both[1], found) < TOLERANCE[kind]


@TYPES
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_demod_bias_act(ops: Ops, rng: np.random.Generator, kind: type, size: tuple[int, int]) -> None:
    for batch, channels, parts in ((2, 6, "dnbs"), (3, 8, "dnb"), (1, 1, "ns"), (2, 5, "")):
        x = rng.standard_normal((batch, channels, *size)).astype(kind)
        tail = random_tail(rng, kind, x.shape, parts, shared_noise=channels == 8)
        settings = {"slope": 0.2, "gain": 2**0.5, "clamp": 1.5 if parts == "dnb" else 0.0}
        check_tail(ops, "DemodBiasAct", x, tail, reference.demod_bias_act(x, *tail, **settings), settings)


@TYPES
@pytest.mark.parametrize(
    "size", [(9, 9), (17, 17), (33, 33), (12, 33), (11, 65), (20, 129), (5, 5), (8, 10), (70, 3)], ids=str)
def test_filtered_bias_act(ops: Ops, rng: np.random.Generator, kind: type, size: tuple[int, int]) -> None:
    pads = ([1, 1, 1, 1], [2, 1, 0, 3], [0, 1, 3, 0])
    for (batch, channels, parts), pad in zip(((2, 6, "dnbs"), (3, 5, "db"), (1, 2, "n")), pads, strict=True):
        x = rng.standard_normal((batch, channels, *size)).astype(kind)
        out = (batch, channels, size[0] + pad[2] + pad[3] - 3, size[1] + pad[0] + pad[1] - 3)
        tail = random_tail(rng, kind, out, parts, shared_noise=parts == "n")
        filtering = {"taps": TAPS, "filter_gain": 4.0, "pad": pad}
        settings = {"slope": 0.2, "gain": 2**0.5, "clamp": 2.0 if parts == "db" else 0.0, **filtering}
        check_tail(ops, "FilteredBiasAct", x, tail, reference.filtered_bias_act(x, *tail, **settings), settings)


@TYPES
@pytest.mark.parametrize(("up", "down"), [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_upfirdn2d(ops: Ops, rng: np.random.Generator, kind: type, up: int, down: int) -> None:
    cases = (((16, 16), [2, 1, 2, 1]), ((33, 17), [1, 1, 1, 1]), ((6, 5), [3, 0, 1, 2]), ((1, 4), [2, 2, 3, 3]))
    for size, pad in cases:
        x = rng.standard_normal((2, 3, *size)).astype(kind)
        settings = {"taps": TAPS, "filter_gain": 4.0, "up": up, "down": down, "pad": pad}
        (found,) = ops("UpFirDn2d", x, **settings)
        assert difference(found, reference.upfirdn2d(x, **settings)) < TOLERANCE[kind]


@TYPES
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_inverse_haar(ops: Ops, rng: np.random.Generator, kind: type, size: tuple[int, int]) -> None:
    for batch, channels, styled in ((2, 3, True), (1, 4, False)):
        bands = rng.standard_normal((batch, 4 * channels, *size)).astype(kind)
        style = rng.standard_normal((batch, 4 * channels)).astype(np.float32) if styled else None
        (found,) = ops("InverseHaar", bands, style, scale=0.5)
        assert difference(found, reference.inverse_haar(bands, style, scale=0.5)) < TOLERANCE[kind]


def test_large_tensors_on_several_threads(ops: Ops, rng: np.random.Generator) -> None:
    x = rng.standard_normal((2, 16, 129, 129)).astype(np.float32)
    tail = random_tail(rng, np.float32, (2, 16, 128, 128), "dnbs")
    (found,) = ops("FilteredBiasAct", x, *tail, pad=[1, 1, 1, 1], threads=2)
    assert difference(found, reference.filtered_bias_act(x, *tail, pad=(1, 1, 1, 1))[1]) < 1e-5
    # Where a thread's share ends, a kernel's scalar rest may round differently.
    assert difference(found, ops("FilteredBiasAct", x, *tail, pad=[1, 1, 1, 1], threads=1)[0]) < 1e-5


def test_unaligned_memory(ops_library: Path, rng: np.random.Generator) -> None:
    # ONNX Runtime reads a caller's array where it lies; these begin four or two bytes beyond a multiple of sixteen.
    ops = Ops(ops_library, "cpu")
    for kind in (np.float32, np.float16):
        x = np.empty(2 * 4 * 16 * 16 + 1, kind)[1:].reshape(2, 4, 16, 16)
        x[:] = rng.standard_normal(x.shape)
        assert x.ctypes.data % 16
        wanted, _ = reference.demod_bias_act(x, gain=2.0)
        assert difference(ops("DemodBiasAct", x, gain=2.0)[0], wanted) < TOLERANCE[kind]
        assert difference(ops("UpFirDn2d", x)[0], reference.upfirdn2d(x)) < TOLERANCE[kind]
        assert difference(ops("InverseHaar", x)[0], reference.inverse_haar(x)) < TOLERANCE[kind]


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
    x = np.ones((1, len(values), 1, 1), np.float16)
    with np.errstate(over="ignore"):
        wanted = values.astype(np.float16)
    (found,) = ops("DemodBiasAct", x, values[None], slope=1.0)
    np.testing.assert_array_equal(found.ravel(), wanted)


def test_the_clamp_keeps_float16_finite(ops: Ops) -> None:
    x = np.full((1, 2, 4, 4), 60000, np.float16)
    demodulation = np.float32([[4, -40]])
    style = np.float32([[200, 1]])
    (free,) = ops("DemodBiasAct", x, demodulation, None, None, style, gain=2**0.5)
    assert np.isinf(free).all()
    (clamped,) = ops("DemodBiasAct", x, demodulation, None, None, style, gain=2**0.5, clamp=256.0)
    np.testing.assert_array_equal(clamped[0, :, 0, 0], np.float16([256 * 200, -256]))


def test_not_a_number_stays_visible(ops: Ops) -> None:
    x = np.full((1, 1, 4, 4), np.nan, np.float32)
    assert np.isnan(ops("DemodBiasAct", x, clamp=1.0)[0]).all()


def test_empty_batches(ops_library: Path) -> None:
    ops = Ops(ops_library, "cpu")
    x = np.zeros((0, 8, 4, 4), np.float32)
    assert ops("DemodBiasAct", x)[0].shape == (0, 8, 4, 4)
    assert ops("FilteredBiasAct", x, pad=[1, 1, 1, 1])[0].shape == (0, 8, 3, 3)
    assert ops("UpFirDn2d", x, up=2, pad=[2, 1, 2, 1])[0].shape == (0, 8, 8, 8)
    assert ops("InverseHaar", x)[0].shape == (0, 2, 8, 8)


ONES = np.ones((2, 8, 4, 4), np.float32)


@pytest.mark.parametrize(
    ("op", "inputs", "attributes", "message"),
    [("DemodBiasAct", [ONES, ONES[:, :7, 0, 0]], {}, r"demodulation must be \[2, 8\], got \[2, 7\]"),
     ("DemodBiasAct", [ONES, None, ONES[:, :2]], {}, r"noise must be \[2, 1, 4, 4\], got \[2, 2, 4, 4\]"),
     ("DemodBiasAct", [ONES, None, None, ONES[0]], {}, r"bias must be \[8\], got \[8, 4, 4\]"),
     ("DemodBiasAct", [ONES, None, None, None, ONES[:1, :, 0, 0]], {}, r"style must be \[2, 8\], got \[1, 8\]"),
     ("DemodBiasAct", [ONES[0]], {}, r"x must be \[B, C, H, W\], got \[8, 4, 4\]"),
     ("DemodBiasAct", [ONES], {"clamp": -1.0}, "clamp must not be negative"),
     ("FilteredBiasAct", [ONES], {"up": 2}, "no up and no down"),
     ("FilteredBiasAct", [ONES, None, ONES[:, :1]], {}, r"noise must be \[2, 1, 1, 1\]"),
     ("UpFirDn2d", [ONES[:, :, :2]], {}, "smaller than the filter"),
     ("UpFirDn2d", [ONES], {"up": 3}, "up and down must be 1 or 2"),
     ("UpFirDn2d", [ONES], {"pad": [1, 1]}, "pad must have 4 values, got 2"),
     ("UpFirDn2d", [ONES], {"pad": [-1, 1, 1, 1]}, "pad must lie in 0...64"),
     ("UpFirDn2d", [ONES], {"taps": [1.0, 2.0, 1.0]}, "taps must have 4 values, got 3"),
     ("InverseHaar", [ONES[:, :6]], {}, r"bands must be \[B, 4 C, H, W\], got \[2, 6, 4, 4\]"),
     ("InverseHaar", [ONES, ONES[:, :2, 0, 0]], {}, r"style must be \[2, 8\], got \[2, 2\]")])
def test_what_does_not_fit_is_refused(ops_library: Path, op: str, inputs: list[np.ndarray | None],
                                      attributes: dict[str, object], message: str) -> None:
    inputs = [None if array is None else np.ascontiguousarray(array) for array in inputs]
    with pytest.raises(Exception, match=message):  # ONNX Runtime's errors have no common class
        Ops(ops_library, "cpu")(op, *inputs, **attributes)


def test_a_second_output_needs_a_style(ops_library: Path) -> None:
    with pytest.raises(Exception, match="a second output needs a style"):
        Ops(ops_library, "cpu")("DemodBiasAct", ONES, outputs=2)


def test_the_definitions_are_the_layers(rng: np.random.Generator) -> None:
    x, noise, bias = (torch.from_numpy(rng.standard_normal(shape)) for shape in ((2, 8, 9, 9), (1, 1, 9, 9), (8,)))
    gains = torch.from_numpy(rng.uniform(0.5, 2, (2, 8)))
    activation = activate(x * gains[:, :, None, None] + noise, bias)
    plain, modulated = reference.demod_bias_act(x, gains, noise, bias, gains, gain=2**0.5)
    np.testing.assert_allclose(plain, activation, atol=1e-12)
    np.testing.assert_allclose(modulated, activation * gains[:, :, None, None], atol=1e-12)
    bilinear = BilinearFilter().double()
    np.testing.assert_allclose(reference.upfirdn2d(x, filter_gain=4, pad=(1, 1, 1, 1)),
                               bilinear(x, padding=1, gain=4.0), atol=1e-12)
    np.testing.assert_allclose(reference.upfirdn2d(x, filter_gain=4, up=2, pad=(2, 1, 2, 1)), bilinear.upsample(x),
                               atol=1e-12)
    np.testing.assert_allclose(reference.upfirdn2d(x, down=2, pad=(1, 1, 1, 1)), bilinear(x, padding=1, stride=2),
                               atol=1e-12)
    np.testing.assert_allclose(reference.inverse_haar(x, gains, scale=0.5),
                               inverse_haar(x * 0.5 * gains[:, :, None, None]), atol=1e-12)
