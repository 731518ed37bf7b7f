"""Peaks of the spectrum: none in noise, one where a pattern repeats, and no higher than now in the shipped bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import sdk
from codec_contract.errors import ImageError
from edgegrain.metrics.periodic_peaks import PERIODS, added_peaks, has_peaks, peak_amplitudes, periodic_peaks

SIDE = 128


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(128, 12, (SIDE, SIDE, 1)).clip(0, 255).repeat(3, 2).astype(np.uint8)


def test_noise_has_no_peaks() -> None:
    peaks = [periodic_peaks(noise(seed)) for seed in range(8)]
    for period in (4, 8, 16):  # 2 has three frequencies, too few for a mean
        assert np.mean([found[period] for found in peaks]) == pytest.approx(1.6, abs=1)


@pytest.mark.parametrize("period", PERIODS)
def test_a_pattern_raises_the_peak_of_its_period_alone(period: int) -> None:
    """One step of a level every ``period`` pixels also has harmonics, which belong to smaller periods."""
    plain = noise()
    tile = np.random.default_rng(1).normal(0, 6, (period, period, 1))
    patterned = (plain + np.tile(tile, (SIDE // period, SIDE // period, 1))).clip(0, 255).astype(np.uint8)
    before, after = periodic_peaks(plain), periodic_peaks(patterned)
    assert after[period] > before[period] + 6
    larger = [other for other in PERIODS if other > period]
    assert [after[other] for other in larger] == pytest.approx([before[other] for other in larger], abs=2)


def test_added_peaks_are_those_above_the_original_s() -> None:
    plain = noise()
    gridded = plain.copy()
    gridded[::8] += 6
    added = added_peaks(gridded, periodic_peaks(plain))
    assert added[8] == pytest.approx(periodic_peaks(gridded)[8] - periodic_peaks(plain)[8]) and added[8] > 4
    assert added[16] < 2
    assert added_peaks(plain, periodic_peaks(gridded))[8] == 0


@pytest.mark.parametrize("period", PERIODS)
@pytest.mark.parametrize("axis", [0, 1])
def test_amplitudes_are_those_of_the_waves(period: int, axis: int) -> None:
    wave = 10 * np.cos(2 * np.pi * np.arange(SIDE) / period)
    picture = np.rint(128 + np.expand_dims(wave, (1 - axis, 2)) + np.zeros((SIDE, SIDE, 3))).astype(np.uint8)
    found = peak_amplitudes(picture)
    assert found[period] == pytest.approx(10, abs=0.3)
    assert max(found[other] for other in PERIODS if other != period) < 0.3


def test_a_high_peak_may_be_of_a_faint_pattern() -> None:
    ramp = np.linspace(100, 150, SIDE)[:, None, None] + np.zeros((SIDE, SIDE, 3))
    ramp[:, ::2] += 0.5
    picture = np.rint(ramp).astype(np.uint8)
    assert periodic_peaks(picture)[2] > 20 and peak_amplitudes(picture)[2] == pytest.approx(0.25, abs=0.05)


def test_other_sizes_are_refused() -> None:
    with pytest.raises(ImageError, match="multiples of 16; got 120×128"):
        peak_amplitudes(noise()[:, :120])
    assert has_peaks(noise())
    for shape in ((120, 128, 3), (64, 64, 3)):
        assert not has_peaks(np.zeros(shape, np.uint8))
        with pytest.raises(ImageError, match="multiples of 16"):
            periodic_peaks(np.zeros(shape, np.uint8))


def test_the_shipped_bundle_leaves_no_stronger_grid_than_now(default_bundle: Path, portrait: np.ndarray) -> None:
    """Upper bounds, to be lowered with a better decoder."""
    codec = sdk.Codec(default_bundle)
    restored = periodic_peaks(np.asarray(codec.restore(codec.compress(portrait))))
    original = periodic_peaks(portrait)
    assert all(original[period] < 4 for period in (4, 8, 16))
    assert restored[4] < 15 and restored[8] < 18 and restored[16] < 12.5
