"""Encoder and decoder as one network."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from edgegrain.training.grain.autoencoder import build_autoencoder
from edgegrain.training.grain.recipes import GRAIN_RECIPES


@pytest.mark.parametrize("step", [1, 3])
@torch.no_grad()
def test_a_frozen_encoder_is_exact_under_bfloat16(step: int) -> None:
    torch.manual_seed(2)
    model = build_autoencoder(replace(GRAIN_RECIPES["smoke-stage1"], trains=("decoder",), lr_step=step))
    picture = torch.randint(0, 256, (4, 3, 64, 64)).float()
    exact, _ = model.encode(picture)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model.encode(picture)[0], exact)
        model.encoder.requires_grad_(True)
        assert not torch.equal(model.encode(picture)[0], exact)  # else this test would prove nothing
