"""The differentiable code length equals the bytes of the coder."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from codec_contract.lr_coder.coder import encode_lr
from codec_contract.lr_coder.coder_tables import CoderTables
from edgegrain.refinement.payload_bits import PayloadBits


@pytest.mark.parametrize("noise", [0.5, 6.0])
def test_it_is_the_length_of_the_body(noise: float) -> None:
    y, x = np.mgrid[:16, :16]
    smooth = np.stack([90 + 5 * x, 60 + 4 * y, 200 - 3 * x - 2 * y], -1)
    lr = np.clip(np.rint(smooth + np.random.default_rng(0).normal(0, noise, smooth.shape)), 0, 255).astype(np.uint8)
    tables = CoderTables.default()
    levels = torch.from_numpy(lr).permute(2, 0, 1)[None].float().requires_grad_()
    (bits,) = PayloadBits(tables, 16, 16)(levels)
    assert bits.item() / 8 == pytest.approx(len(encode_lr(lr, tables)), rel=0.01, abs=2)
    (gradient,) = torch.autograd.grad(bits, levels)
    assert gradient.isfinite().all() and gradient.abs().max() > 0.01


def test_each_picture_of_a_batch_has_its_own() -> None:
    bits = PayloadBits(CoderTables.default(), 8, 8)
    levels = torch.randint(0, 256, (3, 3, 8, 8), generator=torch.Generator().manual_seed(0)).float()
    alone = torch.cat([bits(levels[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(bits(levels), alone)
