"""IRN is invertible, has the paper's size, and its small picture is a picture."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from codec_contract.errors import ModelError
from edgegrain.papers.irn.bundle import irn_digest, load_irn, read_training, save_irn
from edgegrain.papers.irn.network import IRN, PRESETS, CellTransform, IRNConfig, Upscaler, round_to_levels
from tests.unit.edgegrain.conftest import shaken

SMALL = IRNConfig(blocks=(1, 2), growth=8)


@pytest.mark.parametrize("config", [*(PRESETS[f"irn-x{each}"] for each in (2, 3, 4, 8)), IRNConfig((1, 1), scale=3)])
@torch.no_grad()
def test_the_true_z_gives_the_picture_back(config: IRNConfig) -> None:
    config = replace(config, growth=8)
    irn, x = shaken(IRN, config, 0.02), torch.rand(1, 3, 2 * config.factor, 3 * config.factor)
    y, z = irn(x)
    assert y.shape == (1, 3, 2, 3)
    assert z.shape == (1, config.z_channels, *y.shape[2:])
    assert (irn.inverse(y, z) - x).abs().max() <= 1e-4
    untouched = IRN(config)(x)[0]
    assert (y - untouched).abs().mean() > 0.01  # the couplings were not idle
    assert (irn.inverse(y, irn.sample_z(y)) - x).abs().mean() > 0.01


@pytest.mark.parametrize(("name", "parameters"), [("irn-x4", 4.35e6), ("irn-x2", 1.67e6)])
def test_parameters_are_the_papers(name: str, parameters: float) -> None:
    """4.35 M: [IRN] appendix, Table 1; 1.67 M for 2x follow from the same blocks."""
    irn = IRN(PRESETS[name])
    assert sum(parameter.numel() for parameter in irn.parameters()) == pytest.approx(parameters, rel=0.01)
    assert all(len(stage.blocks) == 8 for stage in irn.stages)


@torch.no_grad()
def test_a_new_network_is_the_haar_transform() -> None:
    irn, x = IRN(SMALL), torch.rand(1, 3, 16, 16)
    y, _ = irn(x)
    assert torch.allclose(y, torch.nn.functional.avg_pool2d(x, 4), atol=1e-6)
    restored = Upscaler(irn)(2 * y - 1)
    assert torch.allclose(restored, (2 * y - 1).repeat_interleave(4, 2).repeat_interleave(4, 3), atol=1e-5)
    x = torch.rand(2, 3, 6, 9)
    torch.testing.assert_close(IRN(PRESETS["irn-x3"])(x)[0], torch.nn.functional.avg_pool2d(x, 3))


@torch.no_grad()
def test_one_z_for_all_places_stands_for_many() -> None:
    irn = shaken(IRN, SMALL, 0.02)
    lr, upscaler = torch.rand(2, 3, 4, 4) * 2 - 1, Upscaler(irn)
    z = torch.randn(1, irn.config.z_channels, 1, 1)
    assert torch.allclose(upscaler(lr, z), upscaler(lr, z.expand(2, -1, 4, 4)))
    assert torch.allclose(upscaler(lr), upscaler(lr, torch.zeros(2, irn.config.z_channels, 4, 4)), atol=1e-5)
    assert (upscaler(lr, z) - upscaler(lr)).abs().max() > 0.1


def test_rounding_lets_gradients_through() -> None:
    y = torch.tensor([-0.2, 0.1234, 0.5, 1.3], requires_grad=True)
    levels = round_to_levels(y)
    levels.sum().backward()
    assert torch.allclose(levels * 255, torch.tensor([0.0, 31.0, 128.0, 255.0]), atol=1e-4)
    assert y.grad is not None and y.grad.tolist() == [1, 1, 1, 1]


def test_a_sample_of_z_has_the_configured_deviation() -> None:
    z = IRN(replace(SMALL, z_std=0.25)).sample_z(torch.zeros(4, 3, 16, 16), torch.Generator().manual_seed(1))
    assert z.shape == (4, 45, 16, 16) and z.std().item() == pytest.approx(0.25, rel=0.02)
    assert abs(z.mean().item()) < 0.01


@pytest.mark.parametrize(
    "fields", [{"blocks": ()}, {"blocks": (8, 0)}, {"growth": 0}, {"clamp": 0.0}, {"z_std": 0.0}, {"scale": 1}]
)
def test_impossible_shapes_are_refused(fields: dict) -> None:
    with pytest.raises(ValueError, match=r"InvBlock|positive|2 or more"):
        IRNConfig(**fields)


def test_cells_are_transformed_in_float32_under_autocast() -> None:
    """Levels are rounded: in bfloat16, which has 8 bits, they would be no integers."""
    x, transform = torch.rand(1, 3, 6, 9), CellTransform(3)
    with torch.autocast("cpu", torch.bfloat16):
        bands = transform(x)
        back = transform.inverse(bands)
    torch.testing.assert_close(bands[:, :3], torch.nn.functional.avg_pool2d(x, 3))
    torch.testing.assert_close(back, x)


def test_later_fields_do_not_change_the_contracts_of_earlier_networks() -> None:
    assert set(PRESETS["irn-x4"].as_dict()) == {"kind", "blocks", "growth", "clamp", "z_std"}
    assert PRESETS["irn-x3"].as_dict()["scale"] == 3
    for config in PRESETS.values():
        assert IRNConfig.from_dict(config.as_dict()) == config


def test_weights_survive_a_file(tmp_path: Path) -> None:
    irn = shaken(IRN, SMALL, 0.02)
    path = save_irn(irn, tmp_path / "irn.safetensors", training={"crops_seen": 5})
    again = load_irn(path)
    assert again.config == SMALL and read_training(path) == {"crops_seen": 5}
    assert all(torch.equal(a, b.half().float()) for a, b in zip(again.parameters(), irn.parameters(), strict=True))
    assert irn_digest(again) != irn_digest(irn)
    assert irn_digest(load_irn(save_irn(again, tmp_path / "again.safetensors", {}))) == irn_digest(again)
    save_file(load_file(path), tmp_path / "plain.safetensors")
    with pytest.raises(ModelError, match="holds no IRN"):
        load_irn(tmp_path / "plain.safetensors")
