"""The bound proof: correct on a layer computed by hand, and refusing layers that exceed the bounds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from codec_contract.errors import ExportError
from edge_encoder.integer_network import (
    ACCUMULATOR_LIMIT,
    INPUT,
    IntegerConv,
    IntegerNetwork,
    accumulate,
    layer_bound,
    prove_bound,
)
from tests.networks import random_network


def layer(weight: np.ndarray, bias: int, shift: int, skip: str | None = None) -> IntegerConv:
    return IntegerConv("layer", INPUT, weight.astype(np.int8), np.full(3, bias, np.int32), np.full(3, shift, np.int32),
                       skip=skip)


def test_the_bound_counts_weights_bias_rounding_and_skip() -> None:
    weight = np.array([1, -2, 3]).reshape(1, 3, 1, 1).repeat(3, 0)
    assert layer_bound(layer(weight, -100, 4)).tolist() == [6 * 255 + 92 + 1] * 3
    assert layer_bound(layer(weight, -100, 4, skip=INPUT)).tolist() == [6 * 255 + 93 + 255 * 16] * 3


def test_the_bound_is_reached_up_to_the_guard() -> None:
    weight = np.array([5, 7, 9]).reshape(1, 3, 1, 1).repeat(3, 0)
    one = layer(weight, 11, 3)
    largest = 21 * 255 + 11 + 4 + 0.5
    assert layer_bound(one)[0] - largest == 0.5


def test_a_channel_that_can_overflow_is_named() -> None:
    bias = np.zeros(3, np.int32)
    bias[2] = ACCUMULATOR_LIMIT
    wide = replace(layer(np.ones((3, 3, 1, 1)), 0, 4), bias=bias)
    with pytest.raises(ExportError, match=r"'layer', channel 2"):
        prove_bound(IntegerNetwork("test", 4, 4, (wide,)))


def test_no_reachable_accumulator_exceeds_its_bound() -> None:
    network = random_network(hr=32, lr=8, seed=1)
    stem = network.layers[0]
    # The input that maximises channel 0: 255 under positive weights, 0 under negative ones.
    patch = np.where(stem.weight[0] > 0, 255, 0).transpose(1, 2, 0)[None]
    acc = accumulate(replace(stem, padding=(0, 0, 0, 0)), patch.astype(np.int64))
    assert 0 < acc[0, 0, 0, 0] <= layer_bound(stem)[0] <= 2 ** prove_bound(network)[stem.name] + 1e-6


def test_depthwise_weights_too_large_for_winograd_kernels_are_named() -> None:
    weight = np.full((3, 1, 3, 3), 12, np.int8)
    weight[1, 0, 0, 0] = 17  # 8 * 12 + 17 = 113
    depthwise = IntegerConv("layer", INPUT, weight, np.zeros(3, np.int32), np.full(3, 4, np.int32),
                            padding=(1, 1, 1, 1), groups=3)
    with pytest.raises(ExportError, match=r"'layer', channel 1.*113"):
        prove_bound(IntegerNetwork("test", 4, 4, (depthwise,)))
    weight[1, 0, 0, 0] = 16
    prove_bound(IntegerNetwork("test", 4, 4, (depthwise,)))
    weight[2] = 1
    weight[2, 0, 2, 2] = 49
    with pytest.raises(ExportError, match=r"'layer', channel 2.*reach 49"):
        prove_bound(IntegerNetwork("test", 4, 4, (depthwise,)))
    weight[2, 0, 2, 2] = 48
    prove_bound(IntegerNetwork("test", 4, 4, (depthwise,)))
