"""The LR coder is compact and deterministic (lossless: test_payload.py), and refuses corrupt bodies and invalid tables;
steps."""

import base64
import json
import time
from dataclasses import replace
from functools import reduce
from operator import getitem
from typing import Any

import numpy as np
import pytest

from codec_contract.errors import BundleError, PayloadError
from codec_contract.lr_coder import coder_tables
from codec_contract.lr_coder.coder import Predictor, decode_lr, encode_lr, largest_sum
from codec_contract.lr_coder.coder_tables import ACTIVATION_MAX, MAX_STEP, ChannelNetwork, CoderTables, Layer, rounded
from codec_contract.lr_coder.context import CONTEXT_SIZES, INPUT_LIMIT, MEAN_BITS, MEAN_MAX, SCALE_MAX, all_contexts
from codec_contract.payload import CODING_DEFLATE, CODING_RANGE, CODING_RAW, encode_payload, parse_payload
from tests.payload_bytes import decode_payload
from tests.pictures import noise

TABLES = CoderTables.default()


def smooth(height: int, width: int, seed: int = 0, deviation: float = 4.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / max(height, width)
    base = 128 + 60 * np.sin(3 * x + rng.random()) + 40 * np.cos(4 * y + rng.random())
    levels = base[..., None] + [10, 0, -12] + deviation * rng.standard_normal((height, width, 3))
    return np.clip(levels, 0, 255).astype(np.uint8)


def test_smooth_pictures_become_small_and_noise_hardly_grows() -> None:
    assert len(encode_lr(smooth(32, 32, deviation=2.0), TABLES)) < 0.5 * 3 * 32 * 32
    assert len(encode_lr(noise(32, 32), TABLES)) < 1.1 * 3 * 32 * 32


def test_coding_is_fast_enough() -> None:
    lr = smooth(128, 128)
    body = encode_lr(lr, TABLES)
    start = time.process_time()
    assert np.array_equal(decode_lr(body, 128, 128, TABLES), lr)
    assert time.process_time() - start < 6.0  # about one second on the machine this was written on


def test_tables_survive_json_and_are_small() -> None:
    data = TABLES.to_json()
    assert CoderTables.from_json(data.decode()).to_json() == data
    assert len(data) < 30_000


def layer(outputs: int, inputs: int, value: int = 0, shift: int = 0) -> Layer:
    shifts = np.full(outputs, shift, np.int32)
    return Layer(np.full((outputs, inputs), value, np.int32), np.zeros(outputs, np.int32), shifts)


def network(channel: int, value: int = 0) -> ChannelNetwork:
    size = CONTEXT_SIZES[channel]
    return ChannelNetwork((layer(4, size, value),), layer(2, size + 4, value))


def predicted(network: ChannelNetwork, context: np.ndarray, reference: np.ndarray) -> tuple[list[int], list[int]]:
    """Means and scale indices as the page computes them, in int32."""

    def accumulated(layer: Layer, values: np.ndarray) -> np.ndarray:
        return (values @ layer.weight.T + (layer.bias + ((1 << layer.shift) >> 1))) >> layer.shift

    values = context
    for layer in network.hidden:
        values = np.clip(accumulated(layer, values), 0, ACTIVATION_MAX)
    output = accumulated(network.output, np.concatenate([context, values], axis=1))
    means = np.clip((reference << MEAN_BITS) + output[:, 0], 0, MEAN_MAX)
    return means.tolist(), np.clip(output[:, 1], 0, SCALE_MAX).tolist()


def test_saturated_networks_do_not_overflow() -> None:
    size = CONTEXT_SIZES[0]
    deep = ChannelNetwork((layer(256, size, 127), layer(256, 256, 127)), layer(2, size + 256, 127))
    tables = CoderTables((deep, network(1), network(2)))
    context = np.full((1, size), INPUT_LIMIT, dtype=np.int32)
    reference = np.array([255], dtype=np.int32)
    assert predicted(tables.channels[0], context, reference) == ([MEAN_MAX], [SCALE_MAX])
    assert predicted(tables.channels[0], -context, reference * 0) == ([0], [0])


def test_extreme_tables_still_code_losslessly() -> None:
    tables = CoderTables((network(0, 100), network(1, -100), network(2, 7)))
    lr = noise(5, 6)
    assert np.array_equal(decode_lr(encode_lr(lr, tables), 5, 6, tables), lr)


def test_tables_of_wrong_shape_are_refused() -> None:
    with pytest.raises(BundleError, match="channel 0, hidden layer 0"):
        CoderTables((network(1), network(1), network(2)))
    for output, message in ((layer(3, CONTEXT_SIZES[0] + 4), "3 outputs"), (layer(2, 7), r"output layer .*\[2, 7\]")):
        with pytest.raises(BundleError, match=f"channel 0.*{message}"):
            CoderTables((replace(network(0), output=output), network(1), network(2)))


def changed(value: Any, *path: Any) -> str:
    record = json.loads(TABLES.to_json())
    target = reduce(getitem, path[:-1], record)
    target[path[-1]] = value
    return json.dumps(record)


def with_first_output(**changes: Any) -> str:
    return changed(json.loads(TABLES.to_json())["channels"][0]["output"] | changes, "channels", 0, "output")


LARGE = base64.b64encode(b"\x80" * TABLES.channels[0].output.weight.size).decode()  # weights of -128
UNREADABLE = ["", "[" * 100_000, "[]", with_first_output(bias=[2**70, 1]), with_first_output(weight="*AAA")]
UNREADABLE += [changed([], "channels"), changed(3, "channels", 0), changed(None, "channels", 0, "hidden", 0)]
UNUSABLE: list[tuple[str, dict[str, Any]]] = [
    *(("has a shift outside 0 to 24", {"shift": [0, shift]}) for shift in (-1, 25)),
    ("has weights .*, 1 biases", {"bias": [0]}),
    ("can reach", {"bias": [2**30, 1]}),
    ("has .* expected .* inputs", {"weight": "AAAAAAAA"}),
    ("must have weights of magnitude at most 127", {"weight": LARGE}),
]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ('{"format":"something else"}', "unknown"),
        (changed([], "channels", 0, "hidden"), "channel 0 has no hidden layer"),
        *((data, "malformed") for data in UNREADABLE),
        *((with_first_output(**change), f"channel 0, output layer {message}") for message, change in UNUSABLE),
    ],
)
def test_unreadable_tables_are_refused(data: bytes | str, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        CoderTables.from_json(data)


EVERY_LEVEL = np.arange(256, dtype=np.uint8)
CONTRACT = bytes(range(32))


def test_levels_go_to_the_nearest_multiple_and_halves_up() -> None:
    np.testing.assert_array_equal(rounded(np.uint8([0, 1, 2, 3, 4, 5, 254, 255]), 3), [0, 0, 3, 3, 3, 6, 255, 255])
    np.testing.assert_array_equal(rounded(np.uint8([0, 1, 2, 3, 253, 254, 255]), 2), [0, 2, 2, 4, 254, 254, 255])


@pytest.mark.parametrize("step", range(1, MAX_STEP + 1))
def test_rounded_levels_stay_and_differ_by_half_a_step_at_most(step: int) -> None:
    levels = rounded(EVERY_LEVEL, step)
    np.testing.assert_array_equal(rounded(levels, step), levels)
    assert np.abs(levels.astype(int) - EVERY_LEVEL).max() <= step / 2
    indices = coder_tables.to_indices(levels, step)
    np.testing.assert_array_equal(coder_tables.to_levels(indices, step), levels)


@pytest.mark.parametrize("step", [2, 3, MAX_STEP])
def test_bodies_hold_rounded_levels_in_fewer_bytes(step: int) -> None:
    lr, coarse = noise(8, 8), replace(TABLES, step=step)
    body = encode_lr(lr, coarse)
    np.testing.assert_array_equal(decode_lr(body, 8, 8, coarse), rounded(lr, step))
    # Noise has log2(step) bits a level less; the tables are fitted to step 1.
    assert len(encode_lr(lr, TABLES)) - len(body) > 0.7 * lr.size * np.log2(step) / 8


@pytest.mark.parametrize("coding", [CODING_RAW, CODING_RANGE, CODING_DEFLATE])
def test_payloads_hold_rounded_levels_and_no_others(coding: int) -> None:
    """Each LR has one payload: payloads of the same contract id with levels of step 1 are refused."""

    def pack(lr: np.ndarray, tables: CoderTables) -> bytes:
        return encode_payload(lr, contract_id=CONTRACT, tables=tables, original_size=(640, 480), coding=coding)

    lr, coarse = noise(16, 16), replace(TABLES, step=3)
    read, _ = decode_payload(pack(lr, coarse), contract_id=CONTRACT, tables=coarse)
    np.testing.assert_array_equal(read, rounded(lr, 3))
    data = pack(np.full((16, 16, 3), 201, np.uint8), TABLES)
    assert parse_payload(data).header.coding == coding
    message = "level 2 x 201 is above 255" if coding == CODING_RANGE else "no multiples of 2"
    with pytest.raises(PayloadError, match=message):
        decode_payload(data, contract_id=CONTRACT, tables=replace(TABLES, step=2))


def test_the_step_is_in_the_json_and_in_the_digest() -> None:
    coarse = replace(TABLES, step=3)
    record = json.loads(coarse.to_json())
    assert (record["format"], record["step"]) == ("edgegrain coder tables 2", 3)
    assert CoderTables.from_json(coarse.to_json()).to_json() == coarse.to_json()
    assert coarse.digest() != TABLES.digest()
    assert "step" not in json.loads(TABLES.to_json())


@pytest.mark.parametrize("step", [None, 0, MAX_STEP + 1, "3"])
def test_other_steps_are_refused(step: object) -> None:
    record = json.loads(TABLES.to_json()) | {"format": "edgegrain coder tables 2", "step": step}
    with pytest.raises(BundleError, match="step"):
        CoderTables.from_json(json.dumps(record))


def random_layer(rng: np.random.Generator, inputs: int, shifts: Any, bias_bits: int) -> Layer:
    weight = rng.integers(-127, 128, (len(shifts), inputs), dtype=np.int32)
    bias = rng.integers(-1, 2, len(shifts)) << rng.integers(0, bias_bits, len(shifts))
    return Layer(weight, bias.astype(np.int32), np.array(shifts, np.int32))


def random_tables(seed: int, widths: Any) -> CoderTables:
    """Networks with units that saturate and that vanish; of other widths in each channel."""
    rng, channels = np.random.default_rng(seed), []
    for size in CONTEXT_SIZES:
        layers, inputs = [], size
        for width in rng.permutation(widths).tolist():
            layers.append(random_layer(rng, inputs, rng.integers(0, 25, width), 29))
            inputs = width
        channels.append(ChannelNetwork(tuple(layers), random_layer(rng, size + inputs, (9, 12), 12)))
    return CoderTables(tuple(channels))


def lines_of(width: int, height: int) -> list[list[int]]:
    """The pixels of each line x + 3 y = t, from top to bottom, by their index in reading order."""

    def line(t: int) -> list[int]:
        return [y * width + t - 3 * y for y in range(height) if 0 <= t - 3 * y < width]

    return list(filter(None, map(line, range(width + 3 * height))))


@pytest.mark.parametrize(
    "tables", [CoderTables.default(), random_tables(0, (7,)), random_tables(1, (16, 5, 9)), random_tables(2, (256, 30))]
)
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (8, 1), (7, 11)])
def test_a_line_is_predicted_as_its_samples_are(tables: CoderTables, shape: tuple[int, ...]) -> None:
    height, width = shape
    lr = noise(width, height, 3)
    expected = [predicted(network, *all_contexts(lr, channel)) for channel, network in enumerate(tables.channels)]
    predictor = Predictor(tables.channels)
    np.testing.assert_array_equal(predictor.known(lr.reshape(-1, 3), width, height), np.swapaxes(expected, 0, 1))
    pixels, seen = np.full((height * width + 1, 3), 128, np.float32), []
    for inputs, where in zip(predictor.lines(pixels, width, height), lines_of(width, height), strict=True):
        inputs[:, -3:] = np.nan  # reading samples that are not decoded yet is detected
        for channel, (means, scales) in enumerate(expected):
            found = predictor.predict(inputs, channel).tolist()
            assert found == [[means[i] for i in where], [scales[i] for i in where]]
            inputs[:, channel - 3] = lr.reshape(-1, 3)[where, channel]
        seen += where
    assert sorted(seen) == list(range(height * width))
    np.testing.assert_array_equal(pixels[:-1], lr.reshape(-1, 3))
    if height * width > 9:
        assert len({number for network in expected for number in network[0]}) > 20
        assert len({number for network in expected for number in network[1]}) > 5


def test_sums_of_24_bits_are_told_from_larger_ones() -> None:
    """Activations sum up to 4095 times the positive or the negative weights; contexts count twice."""
    weight = np.zeros((2, 8), np.int32)
    weight[1] = [1, -2, 3, 100, -127, 127, 127, -90]
    sizes = Layer(weight, np.int32([0, -50]), np.int32([0, 3]))
    assert largest_sum(sizes, 3) == 2 * 255 * 6 + 4095 * (100 + 127 + 127) + 50 + 8
    assert largest_sum(sizes, 0) == 4095 * (3 + 1 + 100 + 127 + 127) + 50 + 8
    # The first output of an output layer adds the reference.
    assert largest_sum(Layer(weight * 0, np.int32([7, 0]), np.int32([10, 3])), 3) == 7 + 1024 + (4080 << 10)
