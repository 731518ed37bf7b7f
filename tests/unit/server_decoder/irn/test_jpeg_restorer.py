"""The JPEG restorer of IRN-Compression; what it computes: `tests/parity/test_official_networks.py`."""

from __future__ import annotations

import pytest
import torch

from codec_contract.errors import ModelError
from server_decoder.irn.jpeg_restorer import JPEGRestorer, JPEGRestorerConfig


def test_parameters_are_the_authors() -> None:
    """Counted on ``RRDBNet`` of the public code with the public options."""
    assert sum(parameter.numel() for parameter in JPEGRestorer().parameters()) == 5_795_843


@pytest.mark.parametrize("shape", [(1, 1, 8, 8), (3, 8, 8)])
def test_other_lrs_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match=r"takes LRs \[B, 3, h, w\]"):
        JPEGRestorer(JPEGRestorerConfig(4, 2, 1))(torch.zeros(shape))


@pytest.mark.parametrize("fields", [{"channels": 0}, {"growth": 0}, {"blocks": 0}])
def test_impossible_shapes_are_refused(fields: dict) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        JPEGRestorerConfig(**fields)
