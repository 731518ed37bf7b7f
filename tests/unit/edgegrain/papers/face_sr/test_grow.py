"""A wider GCFSR begins with the pictures of a narrower one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from codec_contract.errors import ModelError
from edgegrain.papers.face_sr.bundle import save_face_sr
from edgegrain.papers.face_sr.recipes import FACE_SR_RECIPES
from edgegrain.papers.face_sr.run import grow, start_run
from edgegrain.papers.gcfsr.network import GCFSR, GCFSRConfig

NARROW = GCFSRConfig(32, 8, channel_base=128, channel_max=12, code_width=8, code_channels=4)
WIDE = replace(NARROW, channel_base=192, channel_max=16)
PICTURES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
STRENGTHS = torch.tensor([0.1, 0.9])


def trained(config: GCFSRConfig = NARROW) -> GCFSR:
    """Random weights, no bias of which is 0."""
    torch.manual_seed(3)
    network = GCFSR(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def test_it_restores_the_same_pictures_and_learns_with_all_channels() -> None:
    torch.manual_seed(1)
    network = GCFSR(WIDE)
    grow(network, trained())
    restored = network(PICTURES, STRENGTHS)
    torch.testing.assert_close(restored, trained()(PICTURES, STRENGTHS), atol=1e-4, rtol=1e-4)
    optimizer = torch.optim.SGD(network.parameters(), 1e-2)
    for _ in range(2):  # what the further channels compute gets a gradient as soon as it is read
        optimizer.zero_grad()
        network(PICTURES, STRENGTHS).square().mean().backward()
        optimizer.step()
    read, computed = network.layers[1].conv.weight, network.first.conv.weight  # type: ignore[union-attr]
    assert read.grad is not None and read.grad[:12, 12:].abs().min() > 0  # type: ignore[union-attr, index]
    assert computed.grad is not None and computed.grad[4:].abs().max() > 0  # type: ignore[union-attr, index]


def test_a_run_begins_with_a_narrower_network(tmp_path: Path) -> None:
    save_face_sr(trained(), tmp_path / "gcfsr.safetensors")
    config = replace(FACE_SR_RECIPES["smoke-gcfsr"], network=WIDE)
    run = start_run(config, start=tmp_path)
    for network in (run.model, run.average):
        with torch.no_grad():
            restored = network(PICTURES, STRENGTHS)
        torch.testing.assert_close(restored, trained()(PICTURES, STRENGTHS), atol=0.02, rtol=0)  # stored as float16


@pytest.mark.parametrize("config", [
    replace(WIDE, channel_max=8), replace(WIDE, size=64), replace(WIDE, code_width=12), replace(WIDE, signed=True)])
def test_other_networks_are_refused(config: GCFSRConfig) -> None:
    with pytest.raises(ModelError, match="narrower than the recipe's and otherwise equal"):
        grow(GCFSR(config), trained())
