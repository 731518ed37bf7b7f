"""The codings' own parts: the range coder, and deflate with its predictor."""

import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from codec_contract.errors import PayloadError
from codec_contract.lr_coder import coder
from codec_contract.lr_coder.coder import PROBABILITY_ONE, RangeDecoder, deflate_lr, inflate_lr, range_encoded
from tests.payload_bytes import memory_below
from tests.pictures import encoded, noise

decisions = st.lists(st.tuples(st.booleans(), st.integers(1, PROBABILITY_ONE - 1)), max_size=300)


def masses(probability: int) -> tuple[int, int, int]:
    """Of two values, the second of that probability: one decision."""
    return (0, PROBABILITY_ONE - probability, PROBABILITY_ONE)


def decode(body: bytes, probabilities: Any) -> list[Any]:
    decoder = RangeDecoder(body)
    places = decoder.code(map(masses, probabilities), [0] * len(probabilities), (1,))
    decoder.finish()
    return [place == 1 for place in places]


@settings(max_examples=300, deadline=None)
@given(decisions)
def test_round_trip(steps: Any) -> None:
    body = range_encoded(steps)
    assert decode(body, [probability for _, probability in steps]) == [bit for bit, _ in steps]
    assert not body.endswith(b"\0")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=40), st.lists(st.integers(1, PROBABILITY_ONE - 1), max_size=200))
def test_any_body_is_refused_or_is_the_one_an_encoder_writes(body: bytes, probabilities: Any) -> None:
    try:
        bits = decode(body, probabilities)
    except PayloadError:
        return
    assert range_encoded(list(zip(bits, probabilities, strict=True))) == body


def test_certain_decisions_cost_nothing() -> None:
    assert range_encoded([]) == b""
    likely = [(True, PROBABILITY_ONE - 1)] * 2000 + [(False, 1)] * 2000
    assert len(range_encoded(likely)) <= 1


@pytest.mark.parametrize("chance", [0.003, 0.5, 0.97])
def test_length_is_close_to_the_entropy(chance: Any) -> None:
    rng = np.random.default_rng(3)
    probability = round(chance * PROBABILITY_ONE)
    bits = rng.random(20_000) < chance
    ideal = -np.where(bits, np.log2(chance), np.log2(1 - chance)).sum() / 8
    body = range_encoded([(bool(bit), probability) for bit in bits])
    assert ideal - 20 < len(body) < ideal * 1.001 + 2


def test_an_interval_around_a_byte_boundary_does_not_lose_its_place() -> None:
    # The worst case of a coder without carries: the interval narrows around 0x80000000.
    steps = [(False, PROBABILITY_ONE // 2)] + [(True, 1), (False, PROBABILITY_ONE - 1)] * 50
    steps = [(True, PROBABILITY_ONE // 2)] + [(False, PROBABILITY_ONE - 1)] * 3 + steps
    assert decode(range_encoded(steps), [p for _, p in steps]) == [bit for bit, _ in steps]


def test_bytes_that_decide_nothing_are_refused() -> None:
    rng = np.random.default_rng(1)
    steps = [(bool(b), int(p)) for b, p in zip(rng.random(400) < 0.5, rng.integers(1, 65535, 400), strict=True)]
    probabilities = [probability for _, probability in steps]
    body = range_encoded(steps)
    for wrong in (body + b"\0", body + bytes(50), body + b"\0\0\0\0\1", body + b"\0\0\0\0" + body):
        with pytest.raises(PayloadError, match="does not end as an encoder would have ended it"):
            decode(wrong, probabilities)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_value_among_many_is_found_by_its_halves(data: st.DataObject) -> None:
    row = np.cumsum(data.draw(st.lists(st.integers(1, 1 << 20), min_size=41, max_size=41))).tolist()
    steps, first = (16, 8, 4), 5  # places 5, 9, ... 33 begin the values; the row goes on at both ends
    values = data.draw(st.lists(st.integers(0, 7), max_size=40))
    expected = []
    for value in values:
        low, high = 0, 8
        while high - low > 1:
            middle = (low + high) // 2
            below, between, above = (row[first + 4 * place] for place in (low, middle, high))
            expected.append((value >= middle, max((above - between << 16) // (above - below), 1)))
            low, high = (middle, high) if value >= middle else (low, middle)
    decoder = RangeDecoder(range_encoded(expected))
    assert [distance // 4 for distance in decoder.code([row] * len(values), [first] * len(values), steps)] == values
    decoder.finish()


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 1000))
def test_every_size_survives(width: int, height: int, seed: int) -> None:
    lr = noise(width, height, seed) // (64 if seed % 2 else 1)
    assert np.array_equal(inflate_lr(deflate_lr(lr), width, height), lr)


def test_the_predictor_is_loco_is() -> None:
    """Left 10, upper 20: an edge above a bright corner, one beside a dark corner, a slope between."""
    left, upper = np.array([10, 10, 10], np.uint8), np.array([20, 20, 20], np.uint8)
    assert coder.median_prediction(left, upper, np.array([25, 5, 14], np.uint8)).tolist() == [10, 20, 16]
    bright = np.array([250], np.uint8)
    assert coder.median_prediction(bright, bright - 10, bright - 5).tolist() == [245]


def test_differences_are_what_the_page_says() -> None:
    """A 2 x 2 LR by hand: green as it is, red and blue minus green."""
    lr = np.array([[[5, 3, 3], [6, 4, 2]], [[9, 7, 0], [1, 9, 9]]], np.uint8)
    planes = np.frombuffer(zlib.decompress(deflate_lr(lr)), np.uint8).reshape(3, 2, 2)
    # Green 3 4 / 7 9: the corner is below both neighbours 7 and 4, so the larger, 7, is the prediction.
    assert planes[0].tolist() == [[3, 1], [4, 2]]
    # Red - green 2 2 / 2 248: 2 is the prediction everywhere.
    assert planes[1].tolist() == [[2, 0], [0, 246]]
    # Blue - green 0 254 / 249 0: the corner 0 is below both, so 254 is the prediction.
    assert planes[2].tolist() == [[0, 254], [249, 2]]


def test_pictures_need_fewer_bytes_than_as_png() -> None:
    rng = np.random.default_rng(0)
    cells = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8))
    picture = np.asarray(cells.resize((320, 240), Image.Resampling.BICUBIC)).astype(np.int16)
    lr = np.clip(picture + rng.integers(-3, 4, (240, 320, 1)), 0, 255).astype(np.uint8)  # grey noise
    assert len(deflate_lr(lr)) < 0.95 * len(encoded(lr, optimize=True))


def test_other_bodies_are_refused() -> None:
    with pytest.raises(PayloadError, match="corrupt"):
        inflate_lr(b"no deflate", 2, 2)
    good = zlib.compress(bytes(12))
    for body in (zlib.compress(bytes(11)), zlib.compress(bytes(13)), good + b"x", good[:-1]):
        with pytest.raises(PayloadError, match="12 samples"):
            inflate_lr(body, 2, 2)


def test_a_bomb_is_refused_in_little_memory() -> None:
    bomb = zlib.compress(bytes(50_000_000))
    with memory_below(1_000_000), pytest.raises(PayloadError):
        inflate_lr(bomb, 10, 10)


@pytest.mark.parametrize("shape", [(4_000, 2), (2, 4_000), (100, 100)])
def test_lrs_are_decoded_within_three_times_their_memory(shape: tuple[int, int]) -> None:
    lr = noise(*shape)
    body = deflate_lr(lr)
    with memory_below(3 * lr.nbytes):
        decoded = inflate_lr(body, *shape)
    np.testing.assert_array_equal(decoded, lr)
