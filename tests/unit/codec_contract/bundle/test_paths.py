"""Finding bundles by folder, name and alias."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from codec_contract.bundle import find as bundle_paths
from codec_contract.bundle.find import DEFAULT_BUNDLE, bundle_roots, find_bundle, installed_bundles
from codec_contract.errors import BundleError


@pytest.fixture
def roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    wheel, checkout = tmp_path / "wheel", tmp_path / "checkout"
    for root, names in ((wheel, [DEFAULT_BUNDLE]), (checkout, [DEFAULT_BUNDLE, "cats-256-lr16"])):
        for name in names:
            (root / name).mkdir(parents=True)
            (root / name / "manifest.json").write_text("{}")
    monkeypatch.setattr(bundle_paths, "bundle_roots", lambda: (wheel, checkout))
    return wheel, checkout


def test_a_folder_comes_before_names(roots: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "encoder.safetensors").write_bytes(b"")  # a bundle being built has no manifest yet
    assert find_bundle(mine) == mine
    assert find_bundle(str(mine)) == mine


def test_names_and_the_alias_find_the_wheels_bundle_before_the_checkouts(roots: tuple[Path, Path]) -> None:
    wheel, checkout = roots
    assert find_bundle() == find_bundle("faces") == find_bundle(DEFAULT_BUNDLE) == wheel / DEFAULT_BUNDLE
    assert find_bundle("cats-256-lr16") == checkout / "cats-256-lr16"
    assert installed_bundles() == {"cats-256-lr16": checkout / "cats-256-lr16", DEFAULT_BUNDLE: wheel / DEFAULT_BUNDLE}


@pytest.mark.parametrize("name", [".9a69b1c2d3e4f506.old", ".cats-256-lr16.x1y2z3"])
def test_folders_that_a_killed_process_left_are_no_bundles(roots: tuple[Path, Path], name: str) -> None:
    before = installed_bundles()
    (roots[1] / name).mkdir()
    (roots[1] / name / "manifest.json").write_text("{}")
    assert installed_bundles() == before


@pytest.mark.parametrize("name", ["dogs", "../wheel", "", "Faces", "/nowhere"])
def test_unknown_names_are_refused_with_what_there_is(roots: tuple[Path, Path], name: str) -> None:
    with pytest.raises(BundleError, match=r"installed bundles: cats-256-lr16, faces-256-lr16"):
        find_bundle(name)


@pytest.mark.parametrize("name", ["a" * 300, "x/" * 3000, None, 7])
def test_names_that_no_path_can_have_are_refused(roots: tuple[Path, Path], name: Any) -> None:
    with pytest.raises(BundleError, match=r"is no bundle|installed bundles"):
        find_bundle(name)


def test_a_folder_that_is_no_bundle_says_what_is_missing(roots: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="holds no manifest.json"):
        find_bundle(tmp_path)


def test_roots_are_the_packages_and_the_checkouts() -> None:
    inside, beside = bundle_roots()
    assert inside.parts[-2:] == ("edgegrain", "bundles")
    assert beside == inside.parents[1] / "bundles"
