import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgegrain.contract.errors import PayloadError
from edgegrain.contract.range_coder import PROBABILITY_ONE, RangeDecoder, RangeEncoder

decisions = st.lists(st.tuples(st.booleans(), st.integers(1, PROBABILITY_ONE - 1)), max_size=300)


def encode(steps):
    encoder = RangeEncoder()
    for bit, probability in steps:
        encoder.code(bit, probability)
    return encoder.finish()


def decode(body, probabilities):
    decoder = RangeDecoder(body)
    bits = [decoder.code(False, probability) for probability in probabilities]
    decoder.finish()
    return bits


@settings(max_examples=300, deadline=None)
@given(decisions)
def test_round_trip(steps):
    body = encode(steps)
    assert decode(body, [probability for _, probability in steps]) == [bit for bit, _ in steps]
    assert not body.endswith(b"\0")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=40), st.lists(st.integers(1, PROBABILITY_ONE - 1), max_size=200))
def test_any_body_is_refused_or_is_the_one_an_encoder_writes(body, probabilities):
    try:
        bits = decode(body, probabilities)
    except PayloadError:
        return
    assert encode(list(zip(bits, probabilities, strict=True))) == body


def test_certain_decisions_cost_nothing():
    assert encode([]) == b""
    likely = [(True, PROBABILITY_ONE - 1)] * 2000 + [(False, 1)] * 2000
    assert len(encode(likely)) <= 1


@pytest.mark.parametrize("chance", [0.003, 0.1, 0.5, 0.97])
def test_length_is_close_to_the_entropy(chance):
    rng = np.random.default_rng(3)
    probability = round(chance * PROBABILITY_ONE)
    bits = rng.random(200_000) < chance
    ideal = -np.where(bits, np.log2(chance), np.log2(1 - chance)).sum() / 8
    body = encode([(bool(bit), probability) for bit in bits])
    assert ideal - 20 < len(body) < ideal * 1.001 + 2


def test_an_interval_around_a_byte_boundary_does_not_lose_its_place():
    # The worst case of a coder without carries: the interval narrows around 0x80000000.
    steps = [(False, PROBABILITY_ONE // 2)] + [(True, 1), (False, PROBABILITY_ONE - 1)] * 50
    steps = [(True, PROBABILITY_ONE // 2)] + [(False, PROBABILITY_ONE - 1)] * 3 + steps
    assert decode(encode(steps), [p for _, p in steps]) == [bit for bit, _ in steps]


def test_bytes_that_decide_nothing_are_refused():
    rng = np.random.default_rng(1)
    steps = [(bool(b), int(p)) for b, p in zip(rng.random(400) < 0.5, rng.integers(1, 65535, 400), strict=True)]
    probabilities = [probability for _, probability in steps]
    body = encode(steps)
    for wrong in (body + b"\0", body + bytes(50), body + b"\0\0\0\0\1", body + b"\0\0\0\0" + body):
        with pytest.raises(PayloadError, match="does not end as an encoder would have ended it"):
            decode(wrong, probabilities)
