"""Levels in steps: rounding, indices, and what the coder and payloads store."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from codec_contract.errors import BundleError, PayloadError
from codec_contract.lr_coder.coder import decode_lr, encode_lr
from codec_contract.lr_coder.coder_tables import MAX_STEP, CoderTables, rounded, to_indices, to_levels
from codec_contract.payload import CODING_DEFLATE, CODING_RANGE, CODING_RAW, decode_payload, encode_payload

TABLES = CoderTables.default()
EVERY_LEVEL = np.arange(256, dtype=np.uint8)
CONTRACT = bytes(range(32))


def noise(seed: int = 1, side: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def test_step_1_changes_nothing() -> None:
    np.testing.assert_array_equal(to_indices(EVERY_LEVEL, 1), EVERY_LEVEL)
    np.testing.assert_array_equal(rounded(EVERY_LEVEL, 1), EVERY_LEVEL)


def test_levels_go_to_the_nearest_multiple_and_halves_up() -> None:
    np.testing.assert_array_equal(rounded(np.uint8([0, 1, 2, 3, 4, 5, 254, 255]), 3), [0, 0, 3, 3, 3, 6, 255, 255])
    np.testing.assert_array_equal(rounded(np.uint8([0, 1, 2, 3, 253, 254, 255]), 2), [0, 2, 2, 4, 254, 254, 255])


@pytest.mark.parametrize("step", range(1, MAX_STEP + 1))
def test_rounded_levels_stay_and_differ_by_half_a_step_at_most(step: int) -> None:
    levels = rounded(EVERY_LEVEL, step)
    np.testing.assert_array_equal(rounded(levels, step), levels)
    assert np.abs(levels.astype(int) - EVERY_LEVEL).max() <= step / 2
    np.testing.assert_array_equal(to_levels(to_indices(levels, step), step), levels)


@pytest.mark.parametrize("step", [2, 3, MAX_STEP])
def test_bodies_hold_rounded_levels_in_fewer_bytes(step: int) -> None:
    lr, coarse = noise(), replace(TABLES, step=step)
    body = encode_lr(lr, coarse)
    np.testing.assert_array_equal(decode_lr(body, 8, 8, coarse), rounded(lr, step))
    # Noise has log2(step) bits a level less; the tables are fitted to step 1.
    assert len(encode_lr(lr, TABLES)) - len(body) > 0.7 * lr.size * np.log2(step) / 8


@pytest.mark.parametrize("coding", [CODING_RAW, CODING_RANGE, CODING_DEFLATE])
def test_payloads_hold_rounded_levels_and_no_others(coding: int) -> None:
    """Each LR has one payload: payloads of the same contract id with levels of step 1 are refused."""
    def pack(lr: np.ndarray, tables: CoderTables) -> bytes:
        return encode_payload(lr, contract_id=CONTRACT, tables=tables, original_size=(640, 480), coding=coding)

    lr, coarse = noise(side=16), replace(TABLES, step=3)
    read, _ = decode_payload(pack(lr, coarse), contract_id=CONTRACT, tables=coarse)
    np.testing.assert_array_equal(read, rounded(lr, 3))
    data = pack(np.full((16, 16, 3), 201, np.uint8), TABLES)
    assert data[2] & 15 == coding
    message = "level 2 x 201 is above 255" if coding == CODING_RANGE else "no multiples of 2"
    with pytest.raises(PayloadError, match=message):
        decode_payload(data, contract_id=CONTRACT, tables=replace(TABLES, step=2))


def test_the_step_is_in_the_json_and_in_the_digest() -> None:
    coarse = replace(TABLES, step=3)
    record = json.loads(coarse.to_json())
    assert (record["format"], record["step"]) == ("edgegrain coder tables 2", 3)
    assert CoderTables.from_json(coarse.to_json()) == coarse != TABLES
    assert coarse.digest() != TABLES.digest()
    assert "step" not in json.loads(TABLES.to_json())


@pytest.mark.parametrize("step", [None, 1, 0, -3, MAX_STEP + 1, 3.0, "3", True])
def test_other_steps_are_refused(step: object) -> None:
    record = json.loads(TABLES.to_json()) | {"format": "edgegrain coder tables 2", "step": step}
    with pytest.raises(BundleError, match="step"):
        CoderTables.from_json(json.dumps(record))
