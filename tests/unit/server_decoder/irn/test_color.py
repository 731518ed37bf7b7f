"""IRN-Color is invertible, has the size of the authors' network, and a new one gives the luminance."""

from __future__ import annotations

import pytest
import torch

from codec_contract.errors import ModelError
from server_decoder.irn.color import IRNColor, IRNColorConfig


def shaken(config: IRNColorConfig) -> IRNColor:
    """A network that does something: in a new one every coupling is the identity."""
    torch.manual_seed(0)
    network = IRNColor(config).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return network


@torch.no_grad()
def test_the_true_z_gives_the_picture_back() -> None:
    network, x = shaken(IRNColorConfig(blocks=3, growth=8)), torch.rand(2, 3, 5, 7)
    y, z = network(x)
    assert y.shape == (2, 1, 5, 7) and z.shape == (2, 2, 5, 7)
    torch.testing.assert_close(network.inverse(y, z), x, atol=1e-5, rtol=0)
    torch.testing.assert_close(network.inverse(y), network.inverse(y, torch.zeros_like(z)))
    assert (network.inverse(y) - x).abs().mean() > 0.01


@torch.no_grad()
def test_a_new_network_gives_the_luminance() -> None:
    network = IRNColor(IRNColorConfig(blocks=1, growth=4))
    x = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0.5, 0.5]]).T[None, :, None]
    assert network(x)[0].flatten().tolist() == pytest.approx([0.299, 0.587, 0.114, 0.5])


@torch.no_grad()
def test_colours_are_mixed_in_float32_under_autocast() -> None:
    """Levels are rounded: bfloat16 has 8 bits."""
    network, x = IRNColor(IRNColorConfig(blocks=1, growth=4)), torch.rand(1, 3, 6, 9)
    expected = network(x)[0]
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(network(x)[0], expected)


def test_parameters_are_the_authors() -> None:
    """Counted on ``InvGreyNet`` of the public code with the public options."""
    assert sum(parameter.numel() for parameter in IRNColor().parameters()) == 1_413_601


@pytest.mark.parametrize("shape", [(1, 1, 8, 8), (3, 8, 8)])
def test_other_pictures_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match=r"takes pictures \[B, 3, H, W\]"):
        IRNColor(IRNColorConfig(1, 4))(torch.zeros(shape))


@pytest.mark.parametrize("fields", [{"blocks": 0}, {"growth": 0}, {"clamp": 0.0}])
def test_impossible_shapes_are_refused(fields: dict) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        IRNColorConfig(**fields)
