"""Residual-in-residual dense blocks: their definition and their initial weights."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from server_decoder.grain.rrdb import RRDB, ResidualDenseBlock


@pytest.mark.parametrize("convs", [4, 5])
def test_a_dense_block_adds_a_fifth_of_its_last_convolution(convs: int) -> None:
    torch.manual_seed(1)
    block = ResidualDenseBlock(8, 4, convs)
    x = torch.randn(1, 8, 6, 6)
    *inner, last = (block.get_submodule(f"conv{number}") for number in range(1, convs + 1))
    features = [x]
    for conv in inner:
        features.append(F.leaky_relu(conv(torch.cat(features, 1)), 0.2))
    torch.testing.assert_close(block(x), x + 0.2 * last(torch.cat(features, 1)))


def test_a_block_without_weights_adds_a_fifth_of_its_input() -> None:
    block = RRDB(8, 4)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.zero_()
    x = torch.randn(1, 8, 5, 5)
    torch.testing.assert_close(block(x), 1.2 * x)  # the three dense blocks pass x on, a fifth of it is added


def test_blocks_start_near_the_identity_and_use_every_convolution() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 16, 6, 6)
    block = RRDB(16, 8)
    y = block(x)
    ratio = (y / x).detach().median()
    # One residual scale of 0.2 around three blocks of the same: out = x + 0.2 * chain(x).
    assert 1.1 < float(ratio) < 1.3
    y.sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in block.parameters())
