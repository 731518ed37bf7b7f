"""Comparison of a decoder with torch: the memory that it asks for. Differences: test_decoder_graph.py."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch

from export.decoder import comparison
from export.decoder.comparison import MEMORY_FACTOR, compare_decoder
from export.decoder.live_memory import largest_live_bytes
from tests.tiny_bundle import HR, LR, repeating_decoder


def test_memory_for_all_pictures_of_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    needed: list[int] = []
    monkeypatch.setattr(comparison, "require_memory", lambda size, purpose: needed.append(size))
    monkeypatch.setattr(comparison, "BATCH", 1)  # 16 pictures of 64 x 64
    model, decoder = repeating_decoder(), torch.nn.Upsample(scale_factor=HR // LR)
    for count in (1, 2, 20):
        assert compare_decoder(model, decoder, np.zeros((count, LR, LR, 3), np.uint8)).lrs == count
    one = MEMORY_FACTOR * largest_live_bytes(onnx.load_model_from_string(model))
    assert [size - needed[0] for size in needed] == pytest.approx([0, one, 15 * one], abs=2)
