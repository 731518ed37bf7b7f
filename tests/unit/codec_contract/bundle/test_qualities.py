"""Qualities: which bundles are tried for a picture, and in which order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from codec_contract.bundle.find import QUALITIES, bundles_by_quality, bundles_to_try
from codec_contract.bundle.manifest import Manifest, load_manifest
from codec_contract.errors import BundleError, ImageError
from tests.tiny_bundle import refresh_manifest, write_qualities, write_tiny_bundle


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Manifest]:
    """Of three qualities in another order, and one without a quality."""
    root = tmp_path_factory.mktemp("bundles")
    found = write_qualities(root)
    other = write_tiny_bundle(root, "other-64-lr16", random=True)
    return [load_manifest(folder) for folder in (found["medium"], other, found["tiny"], found["small"])]


def tried(bundles: list[Manifest], base: int, quality: str | None, max_bytes: int | None) -> list[str | None]:
    return [manifest.quality for manifest in bundles_to_try(bundles[base], bundles, quality, max_bytes)]


def test_qualities_are_ordered_by_rate(bundles: list[Manifest]) -> None:
    assert list(bundles_by_quality("anything", bundles)) == ["tiny", "small", "medium"]
    assert bundles_by_quality("faces", bundles) == {}
    assert QUALITIES == ("tiny", "small", "medium", "large")


@pytest.mark.parametrize(("quality", "max_bytes", "expected"), [
    (None, None, ["small"]),
    ("medium", None, ["medium"]),
    (None, 500, ["medium", "small", "tiny"]),
    ("small", 500, ["small", "tiny"]),
    ("large", 500, ["medium", "small", "tiny"]),
    ("tiny", 500, ["tiny"]),
])
def test_the_best_quality_is_tried_first(bundles: list[Manifest], quality: str | None, max_bytes: int | None,
                                         expected: list[str]) -> None:
    assert tried(bundles, 3, quality, max_bytes) == expected


def test_a_bundle_without_quality_is_tried_alone(bundles: list[Manifest]) -> None:
    assert tried(bundles, 1, None, 500) == [None]
    assert tried(bundles, 1, "small", None) == ["small"]  # of its domain


def test_other_domains_are_not_tried(bundles: list[Manifest]) -> None:
    base, *others = bundles[3], *(replace(manifest, domain="cats") for manifest in bundles)
    assert bundles_to_try(base, others, None, 500) == [base]
    with pytest.raises(BundleError, match="for anything of quality medium, only: small"):
        bundles_to_try(base, others, "medium", None)


def test_what_is_wrong_is_named(bundles: list[Manifest], tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no quality 'huge', only: tiny, small, medium, large"):
        bundles_to_try(bundles[0], bundles, "huge", None)
    with pytest.raises(BundleError, match="of quality large, only: tiny, small, medium; see 'edgegrain bundles'"):
        bundles_to_try(bundles[0], bundles, "large", None)
    with pytest.raises(BundleError, match="no quality '80', only: tiny"):
        bundles_to_try(bundles[0], bundles, 80, None)  # type: ignore[arg-type]
    for limit in (0, -1, True, "500", 1.5, float("nan")):
        with pytest.raises(ImageError, match="max_bytes must be a number of at least 1, got "):
            bundles_to_try(bundles[0], bundles, None, limit)  # type: ignore[arg-type]
    folder = write_tiny_bundle(tmp_path)
    refresh_manifest(folder, quality=3)
    with pytest.raises(BundleError, match="quality"):
        load_manifest(folder)
