"""The range coder: round trips, the shortest ending, and refused bodies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codec_contract.errors import PayloadError
from codec_contract.lr_coder.coder import PROBABILITY_ONE, RangeDecoder, RangeEncoder

decisions = st.lists(st.tuples(st.booleans(), st.integers(1, PROBABILITY_ONE - 1)), max_size=300)


def masses(probability: int) -> tuple[int, int, int]:
    """Of two values, the second of that probability: one decision."""
    return (0, PROBABILITY_ONE - probability, PROBABILITY_ONE)


def encode(steps: Any) -> bytes:
    encoder = RangeEncoder()
    for bit, probability in steps:
        assert encoder.code(masses(probability), 0, (1,), int(bit)) == bit
    return encoder.finish()


def decode(body: bytes, probabilities: Any) -> list[Any]:
    decoder = RangeDecoder(body)
    bits = [decoder.code(masses(probability), 0, (1,), 0) == 1 for probability in probabilities]
    decoder.finish()
    return bits


@settings(max_examples=300, deadline=None)
@given(decisions)
def test_round_trip(steps: Any) -> None:
    body = encode(steps)
    assert decode(body, [probability for _, probability in steps]) == [bit for bit, _ in steps]
    assert not body.endswith(b"\0")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=40), st.lists(st.integers(1, PROBABILITY_ONE - 1), max_size=200))
def test_any_body_is_refused_or_is_the_one_an_encoder_writes(body: bytes, probabilities: Any) -> None:
    try:
        bits = decode(body, probabilities)
    except PayloadError:
        return
    assert encode(list(zip(bits, probabilities, strict=True))) == body


def test_certain_decisions_cost_nothing() -> None:
    assert encode([]) == b""
    likely = [(True, PROBABILITY_ONE - 1)] * 2000 + [(False, 1)] * 2000
    assert len(encode(likely)) <= 1


@pytest.mark.parametrize("chance", [0.003, 0.1, 0.5, 0.97])
def test_length_is_close_to_the_entropy(chance: Any) -> None:
    rng = np.random.default_rng(3)
    probability = round(chance * PROBABILITY_ONE)
    bits = rng.random(50_000) < chance
    ideal = -np.where(bits, np.log2(chance), np.log2(1 - chance)).sum() / 8
    body = encode([(bool(bit), probability) for bit in bits])
    assert ideal - 20 < len(body) < ideal * 1.001 + 2


def test_an_interval_around_a_byte_boundary_does_not_lose_its_place() -> None:
    # The worst case of a coder without carries: the interval narrows around 0x80000000.
    steps = [(False, PROBABILITY_ONE // 2)] + [(True, 1), (False, PROBABILITY_ONE - 1)] * 50
    steps = [(True, PROBABILITY_ONE // 2)] + [(False, PROBABILITY_ONE - 1)] * 3 + steps
    assert decode(encode(steps), [p for _, p in steps]) == [bit for bit, _ in steps]


def test_bytes_that_decide_nothing_are_refused() -> None:
    rng = np.random.default_rng(1)
    steps = [(bool(b), int(p)) for b, p in zip(rng.random(400) < 0.5, rng.integers(1, 65535, 400), strict=True)]
    probabilities = [probability for _, probability in steps]
    body = encode(steps)
    for wrong in (body + b"\0", body + bytes(50), body + b"\0\0\0\0\1", body + b"\0\0\0\0" + body):
        with pytest.raises(PayloadError, match="does not end as an encoder would have ended it"):
            decode(wrong, probabilities)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_value_among_many_is_found_by_its_halves(data: st.DataObject) -> None:
    row = np.cumsum(data.draw(st.lists(st.integers(1, 1 << 20), min_size=41, max_size=41))).tolist()
    steps, first = (16, 8, 4), 5  # places 5, 9, ... 33 begin the values; the row goes on at both ends
    values = data.draw(st.lists(st.integers(0, 7), max_size=40))
    encoder, expected = RangeEncoder(), []
    for value in values:
        assert encoder.code(row, first, steps, first + 4 * value) == first + 4 * value
        low, high = 0, 8
        while high - low > 1:
            middle = (low + high) // 2
            below, between, above = (row[first + 4 * place] for place in (low, middle, high))
            expected.append((value >= middle, max((above - between << 16) // (above - below), 1)))
            low, high = (middle, high) if value >= middle else (low, middle)
    body = encoder.finish()
    assert body == encode(expected)
    decoder = RangeDecoder(body)
    assert [(decoder.code(row, first, steps, 0) - first) // 4 for _ in values] == values
    decoder.finish()
