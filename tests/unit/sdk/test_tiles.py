"""Tiles cover everything, overlap enough and fade into each other; z is one normal field for all of them."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codec_contract.bundle.manifest import Manifest, load_manifest
from codec_contract.errors import ImageError
from sdk import tiles
from sdk.tiles import latent_windows, pad_to, run_tiles, tile_starts
from tests.tiny_bundle import write_tiny_bundle


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    found = load_manifest(write_tiny_bundle(tmp_path))
    return replace(found, decoder={**found.decoder, "controls": ["seed"], "z": {"channels": 2, "std": 0.5}})


def test_overlapping_windows_see_the_same_values_and_rows_are_drawn_once(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    generator = np.random.default_rng

    def counted(seed: Any) -> np.random.Generator:
        drawn.append(seed[1])
        return generator(seed)

    monkeypatch.setattr(tiles, "np", SimpleNamespace(**{**vars(np), "random": SimpleNamespace(default_rng=counted)}))
    window = latent_windows(manifest, 7, 40)
    first, second, below = window(0, 0), window(0, 8), window(8, 0)
    assert first.shape == (1, 2, 16, 16) and first.dtype == np.float32
    np.testing.assert_array_equal(first[..., 8:], second[..., :8])
    np.testing.assert_array_equal(first[..., 8:, :], below[..., :8, :])
    assert drawn == [*range(16), *range(8, 24)]


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_is_in_range(manifest: Manifest, seed: int) -> None:
    with pytest.raises(ImageError, match="a seed is an integer from 0"):
        latent_windows(manifest, seed, 16)
    latent_windows(manifest, cast(int, np.int64(3)), 16)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 70), st.integers(0, 35), st.integers(0, 500))
def test_tiles_cover_and_overlap(side: int, overlap: int, extra: int) -> None:
    overlap = min(overlap, side // 2)
    length = side + extra
    starts = tile_starts(length, side, overlap)
    assert starts[0] == 0 and starts[-1] + side == length
    assert all(overlap <= side - (b - a) for a, b in zip(starts, starts[1:], strict=False))
    assert len(starts) == 1 + -(-extra // (side - overlap))  # no more than needed


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.sampled_from([1, 2]))
def test_what_tiles_agree_on_comes_back(width: int, height: int, factor: int) -> None:
    rgb = np.random.default_rng(width * height).integers(0, 256, (height, width, 3), np.uint8)
    result = run_tiles(rgb, 32, 32 * factor, 8, lambda tile, top, left: tile.repeat(factor, 0).repeat(factor, 1))
    assert np.array_equal(result, rgb.repeat(factor, 0).repeat(factor, 1))


def test_reductions_begin_tiles_at_whole_cells() -> None:
    rgb = np.arange(3 * 60 * 84, dtype=np.uint32).astype(np.uint8).reshape(60, 84, 3)
    seen = []

    def run(tile: np.ndarray, top: int, left: int) -> np.ndarray:
        seen.append((top, left))
        return tile[::4, ::4]

    assert np.array_equal(run_tiles(rgb, 32, 8, 8, run, unit=4), rgb[::4, ::4])
    assert all(top % 4 == left % 4 == 0 for top, left in seen)


def test_where_tiles_differ_one_fades_into_the_next() -> None:
    rgb = np.zeros((32, 80, 3), np.uint8)
    levels = {0: 100, 24: 164, 48: 100}
    result = run_tiles(rgb, 32, 32, 8, lambda tile, top, left: np.full_like(tile, levels[left]))
    row = result[0, :, 0].astype(int)
    assert row[:26].tolist() == [100] * 26 and row[31:50].tolist() == [164] * 19 and set(row[55:]) == {100}
    assert row[26:30].tolist() == [108, 124, 140, 156]
    assert (result == result[:1, :, :1]).all()


def test_padding_repeats_the_far_edges() -> None:
    rgb = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    padded = pad_to(rgb, 4, 3)
    assert np.array_equal(padded[:2, :2], rgb) and np.array_equal(padded[2, 3], rgb[1, 1])
    assert np.array_equal(padded[0, 2:], rgb[0, [1, 1]])
