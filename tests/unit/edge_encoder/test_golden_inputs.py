"""Golden inputs follow their written definition, and a wrong encoder is noticed."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

from codec_contract.errors import BundleError
from edge_encoder.golden_inputs import check_golden, generator_bytes, golden_input, make_golden
from edge_encoder.integer_network import run_reference
from tests.networks import random_network


def test_generator_is_the_written_one() -> None:
    state, values = 4294967295, []
    for _ in range(2000):
        state = (1664525 * state + 1013904223) % 2**32
        values.append(state >> 24)
    assert generator_bytes(4294967295, 2000).tolist() == values
    # The book's own check: 3C6EF35F, 47502932, D1CCF6E9, AAF95334, 6252E503.
    assert generator_bytes(0, 5).tolist() == [0x3C, 0x47, 0xD1, 0xAA, 0x62]


def test_noise_by_hand() -> None:
    picture = golden_input("noise", {"seed": 9, "block": 3, "low": 100, "high": 131}, 7)
    state = 9
    for top in range(0, 7, 3):
        for left in range(0, 7, 3):
            for channel in range(3):
                state = (1664525 * state + 1013904223) % 2**32
                expected = 100 + (state >> 24) * 32 // 256
                assert (picture[top : top + 3, left : left + 3, channel] == expected).all()


def test_gradient_by_hand() -> None:
    parameters = {"from": [0, 255, 10], "to": [255, 0, 13], "axis": "diagonal"}
    picture = golden_input("gradient", parameters, 5)
    for y in range(5):
        for x in range(5):
            t = x + y
            expected = [(a * (8 - t) + b * t + 4) // 8 for a, b in ((0, 255), (255, 0), (10, 13))]
            assert picture[y, x].tolist() == expected
    rows = golden_input("gradient", {**parameters, "axis": "y"}, 5)
    assert rows[:, 0, 0].tolist() == rows[:, 4, 0].tolist() == [0, 64, 128, 191, 255]
    np.testing.assert_array_equal(golden_input("gradient", {**parameters, "axis": "x"}, 5), rows.transpose(1, 0, 2))


def test_checkerboard_and_constant_by_hand() -> None:
    board = golden_input("checkerboard", {"period": 2, "first": [1, 2, 3], "second": [7, 8, 9]}, 5)
    assert board[:, :, 0].tolist() == [[1, 1, 7, 7, 1]] * 2 + [[7, 7, 1, 1, 7]] * 2 + [[1, 1, 7, 7, 1]]
    constant = golden_input("constant", {"colour": [4, 5, 6]}, 3)
    assert constant.shape == (3, 3, 3) and (constant == (4, 5, 6)).all()


def test_made_by_the_reference_and_checked() -> None:
    network = random_network(64, 16, seed=1)
    golden = json.loads(json.dumps(make_golden(lambda rgb: run_reference(network, rgb), 64, seed=5)))
    assert golden["seed"] == 5 and golden["hr"] == 64
    assert {item["kind"] for item in golden["inputs"]} == {"constant", "gradient", "checkerboard", "noise"}
    item = golden["inputs"][0]
    lr = run_reference(network, golden_input(item["kind"], item["parameters"], 64)[None])
    assert item["lr_sha256"] == hashlib.sha256(lr.tobytes()).hexdigest()
    assert len({item["lr_sha256"] for item in golden["inputs"]}) == len(golden["inputs"])

    result = check_golden(golden, lambda rgb: run_reference(network, rgb))
    assert result.checked == len(golden["inputs"]) >= 10 and result.failed == ()


def test_one_wrong_level_is_noticed() -> None:
    network = random_network(64, 16, seed=1)
    golden = make_golden(lambda rgb: run_reference(network, rgb), 64)

    def nearly(rgb: np.ndarray) -> np.ndarray:
        lr = run_reference(network, rgb)
        if rgb.min() == rgb.max() == 255:
            lr[0, 7, 3, 1] ^= 1
        return lr

    assert check_golden(golden, nearly).failed == ("white",)


@pytest.mark.parametrize(
    ("kind", "parameters", "hr"),
    [("constant", {"colour": [0, 0, 256]}, 8), ("constant", {"colour": [0, 0]}, 8), ("constant", {"colour": "red"}, 8),
     ("plasma", {}, 8), ("noise", {"seed": -1, "block": 1, "low": 0, "high": 255}, 8),
     ("noise", {"seed": 1, "block": 0, "low": 0, "high": 255}, 8),
     ("noise", {"seed": 1, "block": 1, "low": 9, "high": 3}, 8),
     ("gradient", {"from": [0, 0, 0], "to": [1, 1, 1], "axis": "z"}, 8), ("constant", {"colour": [0, 0, 0]}, 10**6),
     ("constant", {"colour": [0, 0, 0]}, "8")])
def test_bad_definitions_are_refused(kind: str, parameters: dict, hr: int) -> None:
    with pytest.raises(BundleError):
        golden_input(kind, parameters, hr)


@pytest.mark.parametrize("golden", [{}, {"hr": 8, "inputs": []}, {"hr": 8, "inputs": [{}]}, {"hr": 8, "inputs": 3}])
def test_malformed_files_are_refused(golden: dict) -> None:
    with pytest.raises(BundleError):
        check_golden(golden, lambda rgb: rgb)
