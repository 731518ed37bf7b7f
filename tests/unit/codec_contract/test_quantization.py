"""Levels survive the round trip through values, and invalid arrays are refused."""

from typing import Any

import numpy as np
import pytest

from codec_contract.errors import EdgegrainError
from codec_contract.pixels import dequantize, network_input, pictures_of, quantize, unit_to_levels

LEVELS = np.arange(256, dtype=np.uint8)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_level_survives_the_way_there_and_back(dtype: Any) -> None:
    values = dequantize(LEVELS.astype(dtype))
    assert values.dtype == dtype
    assert values[0] == -1 and values[255] == 1
    assert np.array_equal(quantize(values), LEVELS)


def test_half_a_level_rounds_up_and_excess_is_clipped() -> None:
    # 127.5 is the one half-way point that a binary fraction reaches exactly: the value zero.
    assert quantize(np.array([0.0, -0.0])).tolist() == [128, 128]
    halves = np.array([0.5, 1.5, 126.5, 253.5])
    assert quantize(dequantize(halves + 1e-9)).tolist() == [1, 2, 127, 254]
    assert quantize(dequantize(halves - 1e-9)).tolist() == [0, 1, 126, 253]
    assert quantize(np.array([-7.0, -1.01, 1.01, np.inf, -np.inf])).tolist() == [0, 0, 255, 255, 0]  # clipped


def test_float16_is_widened_and_nan_refused() -> None:
    # 100.5 levels has no float16 form; the nearest one must round as its own exact value says.
    value = np.float16(100.5 / 127.5 - 1)
    exact = float(value)
    assert quantize(np.array([value])).tolist() == [int(np.floor((exact + 1) * 127.5 + 0.5))]
    with pytest.raises(EdgegrainError, match="NaN"):
        quantize(np.array([0.0, np.nan]))


def test_pictures_become_batches_and_back() -> None:
    pictures = np.array([[[[0, 255, 51], [255, 255, 255]]]], np.uint8)  # one of 2 x 1 pixels
    values = network_input(pictures[:, ::-1])
    assert values.dtype == np.float32 and values.flags.c_contiguous
    np.testing.assert_allclose(values, [[[[-1, 1]], [[1, 1]], [[-0.6, 1]]]], atol=1e-6)
    back = pictures_of(values)
    assert back.flags.c_contiguous
    np.testing.assert_array_equal(back, pictures)


def test_the_inverse_neither_rounds_nor_clips() -> None:
    assert unit_to_levels(np.array([-1.0, 0.0, 1.0, 2.0])).tolist() == [0.0, 127.5, 255.0, 382.5]
    assert unit_to_levels(dequantize(np.array([3.25]))) == pytest.approx(3.25, abs=1e-12)


def test_the_rule_serves_torch_tensors() -> None:
    torch = pytest.importorskip("torch")
    values = dequantize(torch.arange(256, dtype=torch.float32))
    assert np.array_equal(values.numpy(), dequantize(LEVELS.astype(np.float32)))
    assert torch.equal(unit_to_levels(values).round(), torch.arange(256, dtype=torch.float32))
