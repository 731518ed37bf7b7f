"""GCFSR: the paper's size and equations, and a strength that turns one network into many."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from edgegrain.papers.gcfsr.network import GCFSR, PRESETS, FeatureModulation, GCFSRConfig, GCFSRUpscaler
from server_decoder.grain.fusion import enlargement_matrix
from tests.face_sr import GCFSR_TINY as TINY


@pytest.fixture(scope="module")
def network() -> GCFSR:
    torch.manual_seed(0)
    network = GCFSR(TINY).eval()
    with torch.no_grad():  # a strength that matters, as after training
        for modulation in network.modulations:
            modulation.encoded.weight.normal_()
            modulation.generated.weight.normal_()
    return network


@pytest.mark.parametrize("change", [{"size": 30}, {"start": 4}, {"start": 32}, {"code_width": 0}])
def test_impossible_sizes_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(ValueError):
        replace(TINY, **change)


def test_the_weights_of_both_features_are_positive_with_unit_norm() -> None:
    """Equation 4."""
    modulation = FeatureModulation(16)
    for layer in (modulation.encoded, modulation.generated):
        torch.nn.init.normal_(layer.bias)
    encoded, generated = modulation.weights(torch.tensor([[0.1], [1.0]]))
    assert encoded.shape == (2, 16) and encoded.min() >= 0 and generated.min() >= 0
    torch.testing.assert_close(encoded.square() + generated.square(), torch.ones(2, 16))


def test_outputs_grow_and_the_last_one_is_the_picture(network: GCFSR) -> None:
    """Equation 5: each output is the one before, enlarged, plus what its level adds."""
    x, strength = torch.rand(2, 3, 32, 32) * 2 - 1, torch.tensor([0.25, 0.5])
    pictures = network.forward_levels(x, strength)
    assert [picture.shape[-1] for picture in pictures] == [8, 16, 32]
    torch.testing.assert_close(pictures[-1], network(x, strength))
    with torch.no_grad():
        silent = GCFSR(TINY).eval()
        silent.load_state_dict(network.state_dict())
        silent.to_rgb[-1].conv.weight.zero_()
        silent.to_rgb[-1].bias.zero_()
        torch.testing.assert_close(silent(x, strength), network.filter.upsample(pictures[-2]))


def test_every_strength_makes_another_picture_gradually(network: GCFSR) -> None:
    up = GCFSRUpscaler(network, 8)
    lr = torch.rand(1, 3, 8, 8) * 2 - 1
    with torch.no_grad():
        sweep = [up(lr, torch.tensor([s])) for s in (4.0, 14.0, 24.0, 34.0, 44.0, 54.0, 64.0)]
        torch.testing.assert_close(up(lr), up(lr, torch.tensor([4.0])), atol=1e-5, rtol=1e-4)  # 32 / 8
    ends = (sweep[-1] - sweep[0]).abs().mean()
    assert ends > 1e-3
    assert max((b - a).abs().mean() for a, b in zip(sweep, sweep[1:], strict=False)) < ends


@pytest.mark.parametrize("rounded", [False, True])
def test_the_network_takes_levels_if_its_authors_rounded_them(rounded: bool) -> None:
    up, taken = GCFSRUpscaler(GCFSR(replace(TINY, rounded=rounded)), 8), []
    up.network.register_forward_pre_hook(lambda module, arguments: taken.append(arguments[0]))
    levels = np.random.default_rng(0).integers(0, 256, (1, 3, 8, 8)).astype(np.float32)
    with torch.no_grad():
        up(torch.from_numpy(levels / 127.5 - 1))
    matrix = enlargement_matrix(8, 32)
    wanted = matrix @ levels @ matrix.T
    assert wanted.min() < 0 and wanted.max() > 255
    wanted = np.round(wanted).clip(0, 255) if rounded else wanted
    np.testing.assert_allclose((taken[0].numpy() + 1) * 127.5, wanted, atol=1e-3)


def test_a_later_field_does_not_change_earlier_networks() -> None:
    assert "rounded" not in PRESETS["gcfsr-1024"].as_dict() and "signed" in PRESETS["gcfsr-1024"].as_dict()
    config = replace(TINY, rounded=True)
    assert config.as_dict()["rounded"] is True and GCFSRConfig.from_dict(config.as_dict()) == config
