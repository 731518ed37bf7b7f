"""The trainable twin equals the integer network it is lowered to, and it learns."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from codec_contract.errors import BundleError, ExportError
from edge_encoder import twin as exact
from edge_encoder.integer_network import ACCUMULATOR_LIMIT, layer_bound, prove_bound, run_reference
from edge_encoder.twin import EncoderConfig, EncoderTwin, box_network, encoder_config, lower
from export.encoder.graph import exact_graph

SMALL = EncoderConfig(hr=64, lr=16, patch=2, channels=(8, 16), blocks=(1, 1))


def pictures(count: int, size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), np.uint8)


def planes(rgb: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(rgb).permute(0, 3, 1, 2).float()


@torch.no_grad()
def run_twin(twin: EncoderTwin, rgb: np.ndarray) -> np.ndarray:
    return twin(planes(rgb))[0].permute(0, 2, 3, 1).numpy().astype(np.uint8)


@torch.no_grad()
def corrected(config: EncoderConfig = SMALL, gain: float = 20) -> EncoderTwin:
    """A twin whose correction matters, with biases."""
    twin = EncoderTwin(config)
    twin.head.weight.mul_(gain)
    for parameter in twin.parameters():
        if parameter.dim() == 1:
            parameter.uniform_(-0.5, 0.5)
    return twin


@pytest.mark.parametrize("config", [SMALL, encoder_config(256, 16), encoder_config(1024, 64)], ids=lambda c: c.name)
def test_twin_and_integer_network_agree_on_every_byte(config: EncoderConfig) -> None:
    twin, rgb = corrected(config), pictures(1, config.hr)
    reference = run_reference(lower(twin), rgb)
    np.testing.assert_array_equal(run_twin(twin, rgb), reference)
    assert (reference != run_reference(box_network(config.hr, config.lr), rgb)).mean() > 0.5


@pytest.mark.parametrize("scale", [1e-6, 1e-2, 1.0, 4.0])
def test_the_weight_scale_keeps_the_bound_and_uses_it(scale: float) -> None:
    twin = EncoderTwin(SMALL)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.mul_(scale)
    network = lower(twin)
    prove_bound(network)
    for layer in network.layers:
        assert np.abs(layer.weight.astype(int)).max() <= 127
        if layer.name == "stem" and scale == 1.0:
            # One bit more would break one of the two limits.
            largest = np.abs(layer.weight.astype(int)).max((1, 2, 3))
            assert ((largest > 63) | (layer_bound(layer) * 2 >= ACCUMULATOR_LIMIT)).all()


def test_a_twin_raised_from_the_integers_computes_the_same() -> None:
    network, rgb = lower(corrected()), pictures(2, 64, 3)
    raised = exact.raise_twin(network, SMALL)
    expected = run_reference(network, rgb)
    np.testing.assert_array_equal(run_twin(raised, rgb), expected)
    np.testing.assert_array_equal(run_reference(lower(raised), rgb), expected)
    with pytest.raises(BundleError, match="exact-64"):
        exact.raise_twin(network, replace(SMALL, channels=(8, 24)))


def test_weights_too_large_for_any_scale_are_refused() -> None:
    twin = EncoderTwin(SMALL)
    torch.nn.init.constant_(twin.stages[0][0].depthwise.weight, 30.0)
    with pytest.raises(ExportError, match=r"stage0\.block0\.depthwise"):
        lower(twin)


def test_a_zero_correction_is_the_exact_box_mean() -> None:
    twin, rgb = EncoderTwin(SMALL), pictures(2, 64)
    torch.nn.init.zeros_(twin.head.weight)
    mean = rgb.reshape(2, 16, 4, 16, 4, 3).astype(np.int64).sum((2, 4))
    expected = (mean + 8) >> 4
    np.testing.assert_array_equal(run_reference(lower(twin), rgb), expected)
    np.testing.assert_array_equal(run_reference(box_network(SMALL.hr, SMALL.lr), rgb), expected)


def test_noise_replaces_rounding_by_at_most_half_a_level() -> None:
    twin, x = EncoderTwin(SMALL), planes(pictures(1, 64))
    with torch.no_grad():
        rounded, noisy = twin(x)[0], twin(x, noise=True)[0]
    difference = (noisy - rounded).abs()
    assert 0.2 < float(difference.mean()) < 0.5
    assert float(difference.max()) <= 1.0  # half a level of noise around a value within half a level of its rounding


def test_training_reaches_a_target_that_a_frozen_twin_misses() -> None:
    twin, x = EncoderTwin(SMALL), planes(pictures(2, 64))
    target = (exact.box_mean(x, twin.config.hr // twin.config.lr) + 12).clamp(0, 255)
    optimizer = torch.optim.Adam(twin.parameters(), 1e-2)
    losses = []
    for _ in range(40):
        lr, _ = twin(x)
        loss = (lr - target).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[0] > 8
    assert losses[-1] < 3
    np.testing.assert_array_equal(run_twin(twin, pictures(1, 64, 5)), run_reference(lower(twin), pictures(1, 64, 5)))


@pytest.mark.parametrize("hr", exact.HR_SIZES)
@pytest.mark.parametrize("lr", exact.LR_SIZES)
def test_every_pair_of_sizes_has_a_light_encoder(hr: int, lr: int) -> None:
    network = lower(EncoderTwin(encoder_config(hr, lr)))
    graph = exact_graph(network)
    assert network.sizes()[network.layers[-1].name] == (3, lr, lr)
    assert graph.flops() <= 2e9
    if hr == 1024:
        assert graph.parameters() * 4 <= 1.5e6


def test_sizes_without_an_encoder_are_refused() -> None:
    with pytest.raises(ValueError, match="one of"):
        encoder_config(300, 16)
    with pytest.raises(ValueError, match="not 16"):
        EncoderConfig(hr=256, lr=16, patch=4, channels=(8, 8), blocks=(0, 0))
    with pytest.raises(ValueError, match="got 2 stages and 1 block counts"):
        EncoderConfig(hr=256, lr=16, patch=8, channels=(8, 8), blocks=(0,))


def test_a_configuration_is_found_by_its_name() -> None:
    for hr in exact.HR_SIZES:
        config = encoder_config(hr, 16)
        assert exact.config_from_name(config.name) == config
    with pytest.raises(ValueError, match="box-256-16"):
        exact.config_from_name("box-256-16")
