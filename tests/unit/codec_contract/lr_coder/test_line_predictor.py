"""A line's predictions are those of the networks one sample at a time, for any tables that are allowed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from codec_contract.lr_coder.coder_tables import ChannelNetwork, CoderTables, Layer
from codec_contract.lr_coder.context import CONTEXT_SIZES, all_contexts
from codec_contract.lr_coder.line_predictor import LinePredictor


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


@pytest.mark.parametrize("tables", [
    CoderTables.default(), random_tables(0, (7,)), random_tables(1, (16, 5, 9)), random_tables(2, (256, 30))])
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (8, 1), (7, 11)])
def test_a_line_is_predicted_as_its_samples_are(tables: CoderTables, shape: tuple[int, ...]) -> None:
    height, width = shape
    lr = np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)
    expected = [network.predict(*all_contexts(lr, channel)) for channel, network in enumerate(tables.channels)]
    seen = []
    for line in LinePredictor(tables.channels).lines(width, height):
        line.samples[:] = np.nan  # reading samples that are not decoded yet is detected
        for channel, (means, scales) in enumerate(expected):
            assert line.predict(channel) == ([means[i] for i in line.where], [scales[i] for i in line.where])
            line.samples[:, channel] = lr.reshape(-1, 3)[line.where, channel]
        seen += line.where.tolist()
    assert sorted(seen) == list(range(height * width))
    if height * width > 9:
        assert len({number for network in expected for number in network[0]}) > 20
        assert len({number for network in expected for number in network[1]}) > 5
