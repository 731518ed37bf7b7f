"""The integer encoder: reference arithmetic, wiring checks, file format, bounds."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save as to_bytes

from codec_contract.errors import BundleError, ExportError, ImageError
from edge_encoder import integer_network as integer
from edge_encoder.integer_network import INPUT, IntegerConv, IntegerNetwork, layer_bound, prove_bound
from tests.networks import random_network


def one_layer(weight: np.ndarray, bias: int = 0, shift: int = 1, **fields: object) -> IntegerConv:
    biases, shifts = (np.full(len(weight), value, np.int32) for value in (bias, shift))
    return IntegerConv("layer", INPUT, weight.astype(np.int8), biases, shifts, **fields)


def test_a_layer_computes_what_its_definition_says() -> None:
    weight = np.array([[[[2]], [[-1]], [[3]]]] * 3)  # every output: 2 r - g + 3 b
    network = IntegerNetwork("test", 2, 2, (one_layer(weight, bias=5, shift=3),))
    rgb = np.array([[[[10, 7, 4], [255, 0, 255]], [[0, 255, 0], [1, 0, 0]]]], np.uint8)
    # acc = 30, 1280, -250, 7; y = clamp(floor((acc + 4.5) / 8))
    expected = [[4, 160], [0, 1]]
    np.testing.assert_array_equal(integer.run_reference(network, rgb)[0, :, :, 1], expected)


def test_reference_equals_a_slow_convolution_in_python_integers() -> None:
    network = random_network(hr=32, lr=8, seed=4)
    rgb = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8)
    tensors = {INPUT: rgb[0].astype(int)}
    for layer in network.layers:
        x = tensors[layer.input]
        top, left, bottom, right = layer.padding
        x = np.pad(x, ((top, bottom), (left, right), (0, 0)))
        down, across = layer.strides
        side = (x.shape[0] - layer.kernel[0]) // down + 1
        y = np.zeros((side, side, layer.out_channels), int)
        for row, column, channel in np.ndindex(y.shape):
            patch = x[row * down :, column * across :][: layer.kernel[0], : layer.kernel[1]].transpose(2, 0, 1)
            source = patch if layer.groups == 1 else patch[channel : channel + 1]
            acc = int((source * layer.weight[channel].astype(int)).sum() + layer.bias[channel])
            shift = int(layer.shift[channel])
            value = (2 * acc + 2**shift + 1) // 2 ** (shift + 1)
            if layer.skip:
                value += tensors[layer.skip][row, column, channel]
            y[row, column, channel] = min(max(value, 0), 255)
        tensors[layer.name] = y
    np.testing.assert_array_equal(integer.run_reference(network, rgb)[0], tensors[network.layers[-1].name])


def test_saving_and_loading_keeps_every_integer(tmp_path: Path) -> None:
    network = random_network()
    integer.save_integer_network(network, tmp_path / "encoder.safetensors")
    loaded = integer.load_integer_network(tmp_path / "encoder.safetensors")
    assert integer.integer_digest(loaded) == integer.integer_digest(network)
    assert [layer.name for layer in loaded.layers] == [layer.name for layer in network.layers]
    with pytest.raises(FileExistsError):
        integer.save_integer_network(network, tmp_path / "encoder.safetensors")


def test_the_digest_changes_with_one_weight_and_with_the_wiring() -> None:
    network = random_network()
    first = network.layers[0]
    weight = first.weight.copy()
    weight.flat[0] ^= 1
    other = replace(network, layers=(replace(first, weight=weight), *network.layers[1:]))
    assert integer.integer_digest(other) != integer.integer_digest(network)
    renamed = replace(network, architecture="other")
    assert integer.integer_digest(renamed) != integer.integer_digest(network)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stride": 1, "padding": (1, 1, 1, 1), "weight": np.ones((3, 3, 3, 3), np.int8)}, "Winograd"),
        ({"input": "nowhere"}, "nowhere"),
        ({"weight": np.ones((3, 3, 1, 1), np.int16)}, "int16"),
        ({"weight": np.ones((0, 3, 1, 1), np.int8)}, r"weights int8 \[0, 3, 1, 1\]"),
        ({"weight": np.ones((), np.int8)}, r"weights int8 \[\]"),
        ({"shift": np.zeros(3, np.int32)}, "1...22"),
        ({"bias": np.zeros(2, np.int32)}, "bias"),
    ],
)
def test_wrong_wiring_is_refused_by_name(change: dict, message: str) -> None:
    layer = one_layer(np.ones((3, 3, 1, 1)))
    with pytest.raises(BundleError, match=message):
        integer.validate_network(IntegerNetwork("test", 4, 4, (replace(layer, **change),)))


LAYER = {"name": "0", "input": INPUT, "stride": 1, "padding": [0, 0, 0, 0], "groups": 1, "skip": None}


def described(**change: object) -> bytes:
    """The file of a network of one layer, whose structure is changed."""
    return file_of(json.dumps({"architecture": "test", "hr": 2, "lr": 2, "layers": [LAYER], **change}))


def file_of(structure: str) -> bytes:
    layer = one_layer(np.ones((3, 3, 1, 1)), shift=2)
    tensors = {f"0.{name}": getattr(layer, name) for name in ("weight", "bias", "shift")}
    return bytes(to_bytes(tensors, metadata={"format": integer.FORMAT, "structure": structure}))


IN_A_LAYER = {
    "input": (None, 0, "", [], {}),
    "skip": (0, "", [], ["a"], {}),
    "name": (0,),
    "groups": (1.5, "1"),
    "stride": ("11",),
    "padding": ([0, 0, 0, 0.5],),
}
IN_THE_NETWORK = {
    "architecture": (None, 3, ["box"], {}),
    "hr": (2.5, float("inf")),
    "lr": ("2",),
    "layers": (None, 3, ["layer"]),
}


@pytest.mark.parametrize(
    "data",
    [
        *(described(layers=[{**LAYER, name: value}]) for name, values in IN_A_LAYER.items() for value in values),
        *(described(**{name: value}) for name, values in IN_THE_NETWORK.items() for value in values),
        file_of("[" * 100_000 + "]" * 100_000),
        b"no safetensors at all",
    ],
)
def test_files_of_other_types_are_refused(data: bytes) -> None:
    assert integer.load_integer_network(described()).layers[0].name == "0"
    with pytest.raises(BundleError):
        integer.load_integer_network(data)


def test_pictures_of_another_size_are_refused() -> None:
    network = random_network(hr=64)
    with pytest.raises(ImageError, match=r"takes uint8 \[N, 64, 64, 3\], got uint8 \[1, 32, 32, 3\]"):
        integer.run_reference(network, np.zeros((1, 32, 32, 3), np.uint8))


def test_the_bound_counts_weights_bias_rounding_and_skip() -> None:
    weight = np.array([1, -2, 3]).reshape(1, 3, 1, 1).repeat(3, 0)
    assert layer_bound(one_layer(weight, -100, 4)).tolist() == [6 * 255 + 92 + 1] * 3
    assert layer_bound(one_layer(weight, -100, 4, skip=INPUT)).tolist() == [6 * 255 + 93 + 255 * 16] * 3
    # It is reached up to the guard.
    assert layer_bound(one_layer(np.abs(weight), 11, 3))[0] == 6 * 255 + 11 + 4 + 0.5 + 0.5


def test_a_channel_that_can_overflow_is_named() -> None:
    bias = np.zeros(3, np.int32)
    bias[2] = integer.ACCUMULATOR_LIMIT
    wide = replace(one_layer(np.ones((3, 3, 1, 1)), 0, 4), bias=bias)
    with pytest.raises(ExportError, match=r"'layer', channel 2"):
        prove_bound(IntegerNetwork("test", 4, 4, (wide,)))


def test_no_reachable_accumulator_exceeds_its_bound() -> None:
    network = random_network(hr=32, lr=8, seed=1)
    stem = network.layers[0]
    # The input that maximises channel 0: 255 under positive weights, 0 under negative ones.
    patch = np.where(stem.weight[0] > 0, 255, 0).transpose(1, 2, 0)[None]
    acc = integer.accumulate(replace(stem, padding=(0, 0, 0, 0)), patch.astype(np.int64))
    assert 0 < acc[0, 0, 0, 0] <= layer_bound(stem)[0] <= 2 ** prove_bound(network)[stem.name] + 1e-6


def test_depthwise_weights_too_large_for_winograd_kernels_are_named() -> None:
    def prove(weight: np.ndarray) -> None:
        prove_bound(IntegerNetwork("test", 4, 4, (one_layer(weight, shift=4, padding=(1, 1, 1, 1), groups=3),)))

    for channel, others, largest, message in ((1, 12, 16, "sum to 113"), (2, 1, 48, "reach 49")):
        weight = np.ones((3, 1, 3, 3))
        weight[channel] = others
        weight[channel, 0, 2, 2] = largest
        prove(weight)
        weight[channel, 0, 2, 2] += 1
        with pytest.raises(ExportError, match=f"'layer', channel {channel}.*{message}"):
            prove(weight)
