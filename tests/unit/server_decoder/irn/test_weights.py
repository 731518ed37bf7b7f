"""Weight files of IRN-Color and of the JPEG restorer; IRN's: `test_network.py`."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from codec_contract.errors import ExistsError, ModelError
from server_decoder.irn.color import IRNColor, IRNColorConfig
from server_decoder.irn.jpeg_restorer import JPEGRestorer, JPEGRestorerConfig
from server_decoder.irn.network import IRN, IRNConfig
from server_decoder.irn.weights import (
    load_irn,
    load_irn_color,
    load_jpeg_restorer,
    read_training,
    save_irn,
    save_irn_color,
    save_jpeg_restorer,
)

KINDS: dict[str, tuple[Any, Callable[..., Path], Callable[[Path], Any]]] = {
    "IRN": (IRN(IRNConfig((1,), growth=4)), save_irn, load_irn),
    "IRN-Color": (IRNColor(IRNColorConfig(2, growth=4, clamp=0.5)), save_irn_color, load_irn_color),
    "JPEG restorer": (JPEGRestorer(JPEGRestorerConfig(4, 2, 1)), save_jpeg_restorer, load_jpeg_restorer),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_survives_its_file(tmp_path: Path, kind: str) -> None:
    network, save, load = KINDS[kind]
    path = save(network, tmp_path / "weights.safetensors", training={"crops_seen": 5}, dtype=torch.float32)
    again = load(path)
    assert again.config == network.config and not again.training and read_training(path) == {"crops_seen": 5}
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), network.parameters(), strict=True))
    with pytest.raises(ExistsError):
        save(network, path)


@pytest.mark.parametrize(("kind", "other"), list(itertools.permutations(KINDS, 2)))
def test_a_file_of_another_kind_is_refused(tmp_path: Path, kind: str, other: str) -> None:
    network, save, _ = KINDS[other]
    path = save(network, tmp_path / "weights.safetensors")
    with pytest.raises(ModelError, match=f"holds no {kind}"):
        KINDS[kind][2](path)
