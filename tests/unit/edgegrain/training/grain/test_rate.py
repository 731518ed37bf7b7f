"""The rate loss and the networks of the coder that it trains."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from codec_contract.lr_coder.coder import encode_lr
from codec_contract.lr_coder.context import CONTEXT_SIZES, all_contexts
from edgegrain.publishing.fit_coder import fit_tables
from edgegrain.training.family import RunOptions
from edgegrain.training.grain import rate
from edgegrain.training.grain.rate import BELOW_TARGET, FIRST_OCTAVE, FloatNetwork, RateModel, RateTarget
from edgegrain.training.grain.recipes import GRAIN_RECIPES
from edgegrain.training.run import train


@pytest.mark.parametrize(
    ("exponent", "error", "returns"),
    [
        (17.0, 0.0, True),  # far too wide for a mean that is right
        (17.0, 250.0, False),  # a wider one would be better still: nothing to come back for
        (FIRST_OCTAVE - 4.0, 40.0, True),  # far too narrow for a mean that is wrong
        (FIRST_OCTAVE - 4.0, 0.0, False),
    ],
)
def test_a_scale_beyond_its_limits_comes_back(exponent: float, error: float, returns: bool) -> None:
    prediction = torch.tensor([[0.0, exponent]], requires_grad=True)
    rate.code_length(prediction, torch.tensor([2.0]), torch.tensor([2.0 + error])).sum().backward()
    slope = prediction.grad[0, 1].item()
    outward = 1 if exponent > 0 else -1
    assert slope * outward > 0 if returns else slope == 0


def test_without_skip_the_context_reaches_the_output_through_hidden_units_only() -> None:
    network = FloatNetwork(5, (4,), skip=False)
    context = torch.randn(64, 5) * 20
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2, weight_decay=1e-3)
    for _ in range(5):
        optimizer.zero_grad()
        network(context).square().sum().backward()
        optimizer.step()
    network.calibrate(context)
    integers = network.integers().output
    assert not integers.weight[:, :5].any() and integers.weight[:, 5:].any()
    with torch.no_grad():
        network.get_parameter("layers.0.weight").zero_()
        network.get_parameter("layers.0.bias").zero_()
        assert torch.equal(network(context), network.bias(1).expand(64, 2))


def smooth_lrs(count: int, height: int = 12, width: int = 16, seed: int = 0) -> np.ndarray:
    """uint8 ``[N, h, w, 3]`` of slopes with some noise."""
    rng = np.random.default_rng(seed)
    slopes = rng.uniform(-6, 6, (count, 2, 1, 1, 3))
    y, x = np.mgrid[:height, :width]
    levels = 128 + slopes[:, 0] * (y[..., None] - height / 2) + slopes[:, 1] * (x[..., None] - width / 2)
    return np.clip(np.rint(levels + rng.normal(0, 4, levels.shape)), 0, 255).astype(np.uint8)


def as_levels(lrs: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(lrs).permute(0, 3, 1, 2).float()


@pytest.mark.parametrize("channel", range(3))
def test_contexts_are_the_coders(channel: int) -> None:
    lr = smooth_lrs(1)
    context, reference = RateModel(12, 16).context(as_levels(lr), channel)
    expected, expected_reference = all_contexts(lr[0], channel)
    assert context.shape == (1, 12 * 16, CONTEXT_SIZES[channel])
    # The coder rounds the reference half up.
    assert (expected_reference - reference[0].numpy()).max() == 0.5
    assert np.abs(reference[0].numpy() - expected_reference).max() <= 0.5
    assert np.abs(context[0].numpy() - expected).max() <= 0.5


def test_after_training_it_is_what_the_fitted_coder_needs() -> None:
    lrs, unseen = smooth_lrs(60), smooth_lrs(10, seed=1)
    model = RateModel(12, 16, widths=(16, 16))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    levels = as_levels(lrs)
    for step in range(120):
        optimizer.zero_grad()
        model(levels[step % 10 :: 10]).backward()
        optimizer.step()
    tables = fit_tables(lrs, widths=(16, 16), steps=200)
    coded = np.mean([len(encode_lr(lr, tables)) for lr in unseen])
    with torch.no_grad():
        expected = float(model(as_levels(unseen))) * unseen[0].size / 8
    assert expected == pytest.approx(coded, rel=0.04)


def test_its_gradient_takes_noise_out() -> None:
    model = RateModel(12, 16, widths=(16, 16))
    noisy = as_levels(smooth_lrs(4)).requires_grad_()
    bits = model(noisy)
    bits.backward()
    assert noisy.grad is not None and noisy.grad.abs().sum() > 0
    with torch.no_grad():
        assert model(noisy - 300 * noisy.grad) < bits


def test_a_weight_on_the_rate_lowers_the_bytes_until_the_target_is_reached(tmp_path: Path) -> None:
    recipe = GRAIN_RECIPES["smoke-stage1"]
    weighed = replace(recipe, loss=replace(recipe.loss, rate=2.0))
    small = train(weighed, tmp_path / "small", pictures=160)
    reached = train(replace(weighed, target_bytes=1e6), tmp_path / "reached", pictures=160)
    free = train(recipe, tmp_path / "free", pictures=0)
    assert "lr_bytes" not in free
    assert small["lr_bytes"] < 0.9 * reached["lr_bytes"]


def test_the_rate_counts_in_full_above_its_target() -> None:
    target = RateTarget(100)
    assert target.factor(torch.tensor(300.0)) == 1
    assert target.factor(torch.tensor(50.0)) == 1  # the mean is still above it
    factors = [float(target.factor(torch.tensor(50.0))) for _ in range(100)]
    assert factors[-1] == BELOW_TARGET
    assert factors.index(BELOW_TARGET) == 78  # 80 batches: 50 + 250 * 0.98 ** 80 is below 100


def test_a_run_that_goes_on_begins_with_networks_that_know_its_lrs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate, "FIT_STEPS", 60)
    recipe = GRAIN_RECIPES["smoke-stage1"]
    recipe = replace(recipe, loss=replace(recipe.loss, rate=0.1))
    random = train(recipe, tmp_path / "first", pictures=0)
    fitted = train(recipe, tmp_path / "second", RunOptions(init_from=tmp_path / "first"), pictures=0)
    assert fitted["psnr"] == pytest.approx(random["psnr"], abs=0.01)
    assert fitted["lr_bytes"] < 0.9 * random["lr_bytes"]
