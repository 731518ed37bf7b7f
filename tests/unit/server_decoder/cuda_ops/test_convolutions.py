"""FusedConv and DenseBlock: kernels against their definition in float64; refusals of all ops."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests import fused_ops as reference
from tests.unit.server_decoder.cuda_ops import test_kernels
from tests.unit.server_decoder.cuda_ops.conftest import TOLERANCE, TYPES, Ops, difference, random_rest


@dataclass(frozen=True)
class Case:
    """Sizes of a convolution."""

    x: tuple[int, int, int, int]
    filters: int
    window: tuple[int, int] = (3, 3)
    pads: tuple[int, int, int, int] = (1, 1, 1, 1)
    stride: int = 1
    shuffle: int = 1
    shift: int = 0
    crop: int = 0
    depthwise: int = 0

    def geometry(self) -> dict[str, object]:
        names = ("stride", "shuffle", "shift", "crop", "depthwise")
        return {"pads": list(self.pads), **{name: getattr(self, name) for name in names}}

    def random(self, rng: np.random.Generator, kind: type) -> tuple[np.ndarray, np.ndarray]:
        channels = 1 if self.depthwise else self.x[3]
        shape = (self.shuffle**2 * self.filters, *self.window, channels)
        weight = rng.standard_normal(shape) / np.sqrt(channels * np.prod(self.window))
        return rng.standard_normal(self.x).astype(kind), weight.astype(kind)


CASES = {
    "3x3": Case((2, 16, 16, 64), 64),
    "3x3 odd": Case((3, 7, 5, 13), 9),
    "3x3 wide": Case((1, 5, 61, 40), 72),
    "3x3 one pixel": Case((2, 1, 1, 8), 24),
    "3x3 stride 2": Case((2, 9, 12, 24), 40, stride=2),
    "3x3 uneven pads": Case((1, 8, 6, 16), 32, pads=(0, 2, 1, 3)),
    "3x3 many filters": Case((2, 8, 8, 96), 160),
    "3x3 large": Case((1, 40, 36, 40), 24),
    "3x3 large odd": Case((2, 33, 37, 19), 21, pads=(0, 2, 1, 0)),
    "3x3 to rgb": Case((2, 10, 11, 37), 3),
    "3x3 from rgb": Case((2, 16, 16, 3), 48),
    "1x1": Case((3, 9, 10, 32), 20, (1, 1), (0, 0, 0, 0)),
    "1x1 to rgb": Case((1, 6, 7, 64), 3, (1, 1), (0, 0, 0, 0)),
    "5x3": Case((1, 9, 9, 6), 33, (5, 3), (2, 1, 2, 1)),
    "2x2 transposed, k=2": Case((2, 5, 7, 16), 12, (1, 1), (0, 0, 0, 0), shuffle=2),
    "2x2 transposed, k=3": Case((2, 8, 8, 24), 40, (2, 2), shuffle=2, crop=1),
    "2x2 transposed, k=4": Case((3, 6, 9, 17), 5, (2, 2), shuffle=2, shift=1),
    "depthwise": Case((2, 8, 9, 64), 64, depthwise=1),
    "depthwise odd": Case((1, 6, 13, 21), 21, depthwise=1, stride=2),
}
EVERY_CASE = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
STEPS = {"slope": 0.2, "gain": 2**0.5, "clamp": 1.5, "scale": 0.3, "outer_scale": 0.7}


def close(found: np.ndarray, wanted: np.ndarray) -> bool:
    return difference(found, wanted) < TOLERANCE[found.dtype.type]


def check(
    ops: Ops, x: np.ndarray, *rest: np.ndarray | None, constants: Collection[int] = (), **attributes: object
) -> None:
    """A node of one output, and of both where there is a style, against the definition."""
    wanted = reference.fused_conv(x, *rest, **attributes)
    (found,) = ops("FusedConv", x, *rest, constants=constants, **attributes)
    assert found.dtype == x.dtype and close(found, wanted[1])
    if len(rest) > 4 and rest[4] is not None:
        both = ops("FusedConv", x, *rest, outputs=2, constants=constants, **attributes)
        assert close(both[0], wanted[0])
        np.testing.assert_array_equal(both[1], found)


def result_shape(x: np.ndarray, weight: np.ndarray, case: Case) -> tuple[int, ...]:
    return reference.fused_conv(x, weight, **case.geometry())[0].shape


def in_two(x: np.ndarray, split: int) -> tuple[np.ndarray, np.ndarray]:
    return np.ascontiguousarray(x[..., :split]), np.ascontiguousarray(x[..., split:])


@TYPES
@EVERY_CASE
def test_fused_conv(ops: Ops, rng: np.random.Generator, kind: type, case: Case) -> None:
    x, weight = case.random(rng, kind)
    check(ops, x, weight, **case.geometry())
    rest = random_rest(rng, kind, result_shape(x, weight, case))
    for residual_first in (0, 1):
        check(ops, x, weight, *rest, constants=(1,), residual_first=residual_first, **case.geometry(), **STEPS)


@TYPES
@pytest.mark.parametrize("parts", ["d", "n", "b", "s", "r", "o", "db", "nbs", "ro", "sr"])
def test_steps_that_are_absent_are_left_out(ops: Ops, rng: np.random.Generator, kind: type, parts: str) -> None:
    case = CASES["3x3 odd"]
    rest = random_rest(rng, kind, (*case.x[:3], case.filters), parts)
    steps = {"slope": 0.0, "clamp": 0.0} if "n" in parts else {"scale": 0.5, "outer_scale": 0.25}
    check(ops, *case.random(rng, kind), *rest, **case.geometry(), **steps)


@TYPES
@pytest.mark.parametrize("name", ["3x3", "3x3 odd", "3x3 large odd", "3x3 to rgb", "1x1", "2x2 transposed, k=4"])
def test_channels_in_two_maps_and_filters_per_picture(
    ops: Ops, rng: np.random.Generator, kind: type, name: str
) -> None:
    case = CASES[name]
    x, weight = case.random(rng, kind)
    for split, constants in ((5, ()), (8, (1,)), (16, (1,))):
        first, more = in_two(x, min(split, x.shape[3] - 1))
        check(ops, first, weight, *[None] * 6, more, constants=constants, **case.geometry())
    weights = np.stack([weight, *(case.random(rng, kind)[1] for _ in x[1:])])
    check(ops, x, weights, *random_rest(rng, kind, result_shape(x, weight, case)), **case.geometry(), **STEPS)


@TYPES
@pytest.mark.parametrize(("channels", "growth", "size"), [(64, 32, (16, 16)), (20, 9, (5, 7))], ids=["rrdb", "odd"])
def test_dense_block(
    ops: Ops, rng: np.random.Generator, kind: type, channels: int, growth: int, size: tuple[int, int]
) -> None:
    x, outer = (rng.standard_normal((2, *size, channels)).astype(kind) for _ in range(2))
    shapes = [(growth if k < 4 else channels, 3, 3, channels + k * growth) for k in range(5)]
    weights = [(rng.standard_normal(shape) / np.sqrt(9 * shape[3])).astype(kind) for shape in shapes]
    biases = [rng.standard_normal(len(weight)).astype(np.float32) for weight in weights]
    for given, constants in ((outer, range(2, 12)), (None, ())):
        (found,) = ops("DenseBlock", x, given, *weights, *biases, constants=constants)
        assert found.dtype == kind and close(found, reference.dense_block(x, given, weights, biases))
    steps = {"slope": 0.1, "scale": 0.5, "outer_scale": 2.0}
    (found,) = ops("DenseBlock", x, outer, *weights, *biases, **steps)
    assert close(found, reference.dense_block(x, outer, weights, biases, **steps))


def test_several_threads_compute_the_same(ops: Ops, rng: np.random.Generator) -> None:
    x, weight = Case((2, 40, 40, 48), 80).random(rng, np.float32)
    one, two = (ops("FusedConv", x, weight, pads=[1] * 4, threads=threads, constants=(1,))[0] for threads in (1, 2))
    np.testing.assert_array_equal(one, two)
    assert close(one, reference.fused_conv(x, weight, pads=(1, 1, 1, 1))[0])


def test_the_clamp_and_not_a_number(ops: Ops) -> None:
    x = np.full((1, 2, 2, 8), 60000, np.float16)
    weight = np.ones((3, 1, 1, 8), np.float16)
    assert np.isinf(ops("FusedConv", x, weight)[0]).all()
    np.testing.assert_array_equal(ops("FusedConv", x, weight, clamp=256.0)[0], np.full((1, 2, 2, 3), 256, np.float16))
    x[0, 0, 0, 0] = np.nan
    found = ops("FusedConv", x, weight, clamp=256.0, slope=0.2)[0]
    assert np.isnan(found[0, 0, 0]).all() and not np.isnan(found[0, 0, 1]).any()


def test_batches_of_any_size_in_one_session(ops: Ops, rng: np.random.Generator) -> None:
    case = CASES["3x3 odd"]
    weight = case.random(rng, np.float32)[1]
    session = ops.session("FusedConv", [np.empty(case.x, np.float32), weight], constants=(1,), **case.geometry())
    (output,) = session.get_outputs()
    assert output.shape == ["batch", 7, 5, 9] and output.type == "tensor(float)"
    for batch in (1, 3, 0):
        x = rng.standard_normal((batch, *case.x[1:])).astype(np.float32)
        (found,) = session.run(None, {"in0": x})
        wanted = reference.fused_conv(x, weight, **case.geometry())[0]
        assert close(found, wanted) if batch else found.shape == wanted.shape


def test_shapes_are_inferred(ops_library: Path) -> None:
    ops = Ops(ops_library, "cpu")
    x, weight = np.empty((1, 5, 6, 8), np.float16), np.empty((12, 2, 2, 8), np.float16)
    inputs = [x, weight, None, None, None, np.empty((1, 3), np.float32)]
    session = ops.session("FusedConv", inputs, 2, result=np.float16, shuffle=2, pads=[1] * 4, crop=1)
    first, second = ((out.shape, out.type) for out in session.get_outputs())
    assert first == (["batch", 11, 13, 3], "tensor(float16)")
    assert second == ([], "tensor(float16)")  # absent from most nodes, so its shape is left to the run


X = np.ones((2, 4, 4, 8), np.float32)
W = np.ones((4, 3, 3, 8), np.float32)
Y = np.ones((2, 4, 4, 4), np.float32)
ONES = np.ones((2, 4), np.float32)
PADS = {"pads": [1, 1, 1, 1]}
REFUSED = {
    "rank": ([X[0], W], {}, r"x must be \[B, H, W, C\], got \[4, 4, 8\]|rank"),
    "channels": ([X[..., :7], W], {}, r"x must have the 8 channels of the weight \[4, 3, 3, 8\], got \[.*, 4, 4, 7\]"),
    "weight": ([X, W[0]], {}, r"weight must be \[O, kh, kw, C\], got \[3, 3, 8\]"),
    "window": ([X, np.ones((1, 5, 5, 8), np.float32)], {}, r"is smaller than the windows of the weight \[1, 5, 5, 8\]"),
    "large window": ([X, np.ones((1, 8, 8, 8), np.float32)], {"pads": [4] * 4}, "at most 49 pixels"),
    "pads": ([X, W], {"pads": [1, 1]}, "pads must have 4 values, got 2"),
    "negative pads": ([X, W], {"pads": [-1, 1, 1, 1]}, r"pads must lie in 0\.\.\.64"),
    "stride": ([X, W], {"stride": 3}, "stride must be 1 or 2, got 3"),
    "shuffle": ([X, W], {"shuffle": 3}, "shuffle must be 1 or 2, got 3"),
    "phases": ([X, W[:3]], {"shuffle": 2}, r"with shuffle 2, weight must be \[4 O, kh, kw, C\], got \[3, 3, 3, 8\]"),
    "shift": ([X, W], {"shift": 1}, "shift and crop need shuffle 2"),
    "flag": ([X, W], {"crop": 2}, "crop must be 0 or 1, got 2"),
    "depthwise": ([X, W], {"depthwise": 1}, r"weight must be \[C, kh, kw, 1\], got \[4, 3, 3, 8\]"),
    "depthwise shuffle": ([X, W[..., :1]], {"depthwise": 1, "shuffle": 2}, "takes no shuffle"),
    "clamp": ([X, W], {"clamp": -1.0}, "clamp must not be negative"),
    "demodulation": ([X, W, ONES[:, :3]], PADS, r"demodulation must be \[2, 4\], got \[2, 3\]"),
    "noise": ([X, W, None, Y], PADS, r"noise must be \[1, 4, 4, 1\], got \[2, 4, 4, 4\]"),
    "bias": ([X, W, None, None, ONES], PADS, r"bias must be \[4\], got \[2, 4\]"),
    "style": ([X, W, None, None, None, ONES[:1]], PADS, r"style must be \[2, 4\], got \[1, 4\]"),
    "residual": ([X, W, None, None, None, None, X], PADS, r"residual must be \[2, 4, 4, 4\], got \[2, 4, 4, 8\]"),
    "more": ([X, W, *[None] * 6, X[:, :2]], PADS, r"more must be a map of the size of x, got \[2, 2, 4, 8\] for"),
    "more channels": ([X, W, *[None] * 6, X], PADS, r"must have the 8 channels of the weight .*, got \[.*, 4, 4, 16\]"),
    "two depthwise": (
        [X[..., :4], W[..., :1], *[None] * 6, X[..., 4:]],
        {"depthwise": 1},
        "the 4 channels|takes one map",
    ),
    "pictures": ([X, np.stack([W] * 3)], PADS, r"weight \[3, 4, 3, 3, 8\] must have filters for 2 pictures"),
    "no residual": ([X, W], {"residual_first": 1, **PADS}, "residual_first needs a residual"),
    "outer": ([X, W, *[None] * 5, Y[:1]], PADS, r"outer must be \[2, 4, 4, 4\], got \[1, 4, 4, 4\]"),
    "outputs": ([X, W], {"outputs": 2}, "a second output needs a style"),
}


GROWN = [np.ones(shape, np.float32) for shape in ((4, 3, 3, 8), (8, 3, 3, 12), (4,), (8,))]
REFUSED_BLOCKS = [
    ([X, None, *GROWN[:3]], "as many weights as biases"),
    ([X[:, :2], X, *GROWN], r"outer must be \[2, 2, 4, 8\], got \[2, 4, 4, 8\]"),
    ([X, None, GROWN[0][..., :7], *GROWN[1:]], r"weight 1 must be \[4, 3, 3, 8\] .*, got \[4, 3, 3, 7\]"),
    ([X, None, GROWN[0], GROWN[1][:7], *GROWN[2:]], r"weight 2 must be \[8, 3, 3, 12\] .*, got \[7, 3, 3, 12\]"),
    ([X, None, GROWN[0].astype(np.float16), *GROWN[1:]], r"weight 1 must be .* in the type of x"),
    ([X, None, *GROWN[:3], GROWN[2]], r"bias 2 must be \[8\] in float32, got \[4\]"),
]


@pytest.mark.parametrize(
    ("op", "inputs", "attributes", "message"),
    [
        *test_kernels.REFUSED,
        *(("FusedConv", *case) for case in REFUSED.values()),
        *(("DenseBlock", inputs, {}, message) for inputs, message in REFUSED_BLOCKS),
    ],
)
def test_what_does_not_fit_is_refused(
    ops_library: Path, op: str, inputs: list[np.ndarray | None], attributes: dict[str, object], message: str
) -> None:
    inputs = [None if array is None else np.ascontiguousarray(array) for array in inputs]
    with pytest.raises(Exception, match=message):  # ONNX Runtime's errors have no common class
        Ops(ops_library, "cpu")(op, *inputs, **attributes)
