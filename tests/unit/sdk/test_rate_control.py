"""Compression at a quality, or within a number of bytes, with tiny bundles whose LRs have 8, 16 and 32 pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import sdk
from codec_contract.bundle import find as paths
from codec_contract.bundle.find import Quality
from edge_encoder import preprocessing
from sdk import codec as codec_module
from tests.tiny_bundle import write_qualities

PICTURE = np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8)
SIDES = {"tiny": 8, "small": 16, "medium": 32}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bundles")
    write_qualities(root)
    return root


@pytest.fixture(autouse=True)
def installed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "bundle_roots", lambda: (root,))


@pytest.mark.parametrize("quality", ["tiny", "small", "medium"])
def test_a_quality_is_the_bundle_of_its_name(quality: Quality) -> None:
    payload = sdk.compress(PICTURE, quality=quality)
    assert payload.lr.shape == (SIDES[quality], SIDES[quality], 3)
    assert sdk.restore(payload).size == (70, 90)  # the payload names its bundle
    assert sdk.compress(PICTURE).lr.shape == (16, 16, 3)


def test_the_best_quality_that_fits_is_taken() -> None:
    sizes = {quality: len(sdk.compress(PICTURE, quality=quality)) for quality in ("tiny", "small", "medium")}
    assert sizes["tiny"] < sizes["small"] < sizes["medium"]
    for quality, size in sizes.items():
        assert sdk.compress(PICTURE, max_bytes=size).lr.shape[0] == SIDES[quality]
    assert sdk.compress(PICTURE, max_bytes=sizes["medium"] - 1).lr.shape[0] == 16
    assert sdk.compress(PICTURE, quality="small", max_bytes=10_000).lr.shape[0] == 16
    with pytest.raises(sdk.ImageError, match=f"fits into {sizes['tiny'] - 1} bytes.* has {sizes['tiny']}"):
        sdk.compress(PICTURE, max_bytes=sizes["tiny"] - 1)


def test_a_quality_that_would_fit_is_named(root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    size = len(sdk.compress(PICTURE, quality="medium"))
    (tmp_path / "faces-256-lr32").symlink_to(next(root.glob("*lr32*")))
    monkeypatch.setattr(paths, "bundle_roots", lambda: (tmp_path,))
    message = rf"has {size}; one of quality {{}} would have about {{}}; 'make qualities' in the clone installs it"
    for limit, quality, expected in ((size // 2, "small", size * 346 // 804), (size // 4, "tiny", size * 170 // 804)):
        with pytest.raises(sdk.ImageError, match=message.format(quality, expected)):
            sdk.compress(PICTURE, "faces-256-lr32", max_bytes=limit)
    with pytest.raises(sdk.ImageError, match=f"has {size}$"):
        sdk.compress(PICTURE, "faces-256-lr32", max_bytes=size // 5)


def test_the_picture_is_read_once_for_all_qualities(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def load(*args: object, **options: object) -> np.ndarray:
        read.append(1)
        return preprocessing.load_picture(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(codec_module, "load_picture", load)
    assert sdk.compress(PICTURE, max_bytes=len(sdk.compress(PICTURE, quality="tiny"))).lr.shape[0] == 8
    assert len(read) == 2


def test_the_installed_bundles_name_their_quality() -> None:
    assert {bundle.quality: bundle.lr for bundle in sdk.bundles()} == SIDES
    with pytest.raises(sdk.BundleError, match="of quality large, only: tiny, small, medium"):
        sdk.compress(PICTURE, quality="large")
