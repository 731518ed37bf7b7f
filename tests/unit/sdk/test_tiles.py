"""z of tiles: one normal field for the whole LR, whatever the tiles."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from codec_contract.bundle.manifest import Manifest, load_manifest
from codec_contract.errors import BundleError, ImageError
from sdk import tiles
from sdk.tiles import _Latent
from tests.tiny_bundle import write_tiny_bundle


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    found = load_manifest(write_tiny_bundle(tmp_path))
    return replace(found, decoder={**found.decoder, "controls": ["seed"], "z": {"channels": 2, "std": 0.5}})


def test_overlapping_windows_see_the_same_values_and_rows_are_drawn_once(
        manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    generator = np.random.default_rng

    def counted(seed: Any) -> np.random.Generator:
        drawn.append(seed[1])
        return generator(seed)

    monkeypatch.setattr(tiles, "np", SimpleNamespace(**{**vars(np), "random": SimpleNamespace(default_rng=counted)}))
    latent = _Latent(manifest, 7, 40)
    first, second, below = latent.window(0, 0, 16), latent.window(0, 8, 16), latent.window(8, 0, 16)
    assert first.shape == (1, 2, 16, 16) and first.dtype == np.float32
    np.testing.assert_array_equal(first[..., 8:], second[..., :8])
    np.testing.assert_array_equal(first[..., 8:, :], below[..., :8, :])
    assert drawn == [*range(16), *range(8, 24)]


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, True, "1"])
def test_a_seed_is_an_integer_in_range(manifest: Manifest, seed: object) -> None:
    with pytest.raises(ImageError, match="a seed is an integer from 0"):
        _Latent(manifest, cast(int, seed), 16)
    _Latent(manifest, cast(int, np.int64(3)), 16)


def test_a_manifest_that_describes_controls_or_z_wrongly(manifest: Manifest) -> None:
    for wrong in (None, "seedless", {"seed": 1}):
        with pytest.raises(BundleError, match="decoder.controls is a list"):
            _Latent(replace(manifest, decoder={**manifest.decoder, "controls": wrong}), 1, 16)
    with pytest.raises(BundleError, match="does not describe the decoder's z"):
        _Latent(replace(manifest, decoder={**manifest.decoder, "z": [1]}), 1, 16)
