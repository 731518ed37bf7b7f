"""Golden inputs follow their written definition, and a wrong encoder is noticed."""

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


def test_made_by_the_reference_and_checked() -> None:
    network = random_network(64, 16, seed=1)
    golden = make_golden(lambda rgb: run_reference(network, rgb), 64, seed=5)
    assert golden["seed"] == 5 and golden["hr"] == 64
    assert {item["kind"] for item in golden["inputs"]} == {"constant", "gradient", "checkerboard", "noise"}
    item = golden["inputs"][0]
    lr = run_reference(network, golden_input(item["kind"], item["parameters"], 64)[None])
    assert item["lr_sha256"] == hashlib.sha256(lr.tobytes()).hexdigest()
    assert len({item["lr_sha256"] for item in golden["inputs"]}) == len(golden["inputs"])

    data = json.dumps(golden).encode()
    same = check_golden(data, lambda rgb: run_reference(network, rgb))
    assert len(same) == len(golden["inputs"]) >= 10 and all(same.values())

    # One wrong level is noticed.
    def nearly(rgb: np.ndarray) -> np.ndarray:
        lr = run_reference(network, rgb)
        if rgb.min() == rgb.max() == 255:
            lr[0, 7, 3, 1] ^= 1
        return lr

    assert [name for name, equal in check_golden(data, nearly).items() if not equal] == ["white"]


NOISE = {"seed": 1, "block": 1, "low": 0, "high": 255}


@pytest.mark.parametrize(
    ("kind", "parameters", "hr"),
    [
        *(("constant", {"colour": colour}, 8) for colour in ([0, 0], "red")),
        ("plasma", {}, 8),
        *(("noise", {**NOISE, **change}, 8) for change in ({"seed": -1}, {"block": 0}, {"block": 1e-9})),
        ("gradient", {"from": [0, 0, 0], "to": [1, 1, 1], "axis": "z"}, 8),
        *(("constant", {"colour": [0, 0, 0]}, side) for side in (10**6, "8")),
    ],
)
def test_malformed_inputs_are_refused(kind: str, parameters: dict, hr: int) -> None:
    item = {"name": "x", "kind": kind, "parameters": parameters, "lr_sha256": ""}
    with pytest.raises(BundleError):
        check_golden(json.dumps({"hr": hr, "inputs": [item]}).encode(), lambda rgb: rgb)


@pytest.mark.parametrize("golden", [{}, {"hr": 8, "inputs": []}, {"hr": 8, "inputs": [{}]}, {"hr": 8, "inputs": 3}])
def test_malformed_files_are_refused(golden: dict) -> None:
    for data in (json.dumps(golden).encode(), b"{", b"[" * 200_000):
        with pytest.raises(BundleError):
            check_golden(data, lambda rgb: rgb)
