"""Growing an IRN: the larger one begins as the same bijection, and all of it can learn."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from codec_contract.errors import ModelError
from edgegrain.papers.irn.network import IRN, IRNConfig
from edgegrain.papers.irn.training import grow

SMALL = IRNConfig(blocks=(1, 2), growth=4, z_std=0.01)
LARGE = replace(SMALL, blocks=(2, 3), growth=6)


def trained(config: IRNConfig) -> IRN:
    torch.manual_seed(0)
    network = IRN(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return network


@pytest.mark.parametrize("difference", [{}, {"tri": True}, {"scale": 3}], ids=["irn", "tri", "3x"])
def test_the_bijection_stays_and_everything_new_can_learn(difference: dict[str, int]) -> None:
    small, large = trained(replace(SMALL, **difference)), IRN(replace(LARGE, **difference))
    grow(large, small)
    side = 2 * small.config.factor
    x = torch.rand(2, 3, side, side)
    y, z = large(x)
    with torch.no_grad():
        for value, wanted in zip((y, z), small(x), strict=True):
            torch.testing.assert_close(value, wanted, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(large.inverse(y, z), x, atol=1e-4, rtol=1e-4)
    (y.square().mean() + z.square().mean()).backward()
    for name in ("stages.0.blocks.1.rho.conv5.weight", "stages.1.blocks.2.eta.conv5.weight",
                 "stages.1.blocks.0.eta.conv5.weight"):
        gradient = large.get_parameter(name).grad
        assert gradient is not None and gradient[:, -1].abs().sum() > 0, name  # at the last of the new channels


@pytest.mark.parametrize("config", [
    replace(SMALL, growth=3), replace(SMALL, blocks=(1, 1)), replace(SMALL, blocks=(1, 2, 2)), replace(LARGE, tri=True),
    replace(LARGE, z_std=1.0)])
def test_what_cannot_grow_is_refused(config: IRNConfig) -> None:
    with pytest.raises(ModelError, match="the recipe has"):
        grow(IRN(config), trained(SMALL))
