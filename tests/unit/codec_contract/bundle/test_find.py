"""Find bundles by name, folder and quality, and their controls."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codec_contract.bundle import find as bundle_paths
from codec_contract.bundle.find import DEFAULT_BUNDLE, Control, bundles_to_try, controls_of, find_bundle, strength_of
from codec_contract.bundle.manifest import Manifest, load_manifest
from codec_contract.errors import BundleError, ImageError
from tests import tiny_bundle
from tests.tiny_bundle import STRENGTH_DEFAULT, refresh_manifest, write_tiny_bundle


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
    cats, faces = checkout / "cats-256-lr16", wheel / DEFAULT_BUNDLE
    assert find_bundle("cats-256-lr16") == cats
    assert bundle_paths.installed_bundles() == {"cats-256-lr16": cats, DEFAULT_BUNDLE: faces}


@pytest.mark.parametrize("name", [".9a69b1c2d3e4f506.old", ".cats-256-lr16.x1y2z3"])
def test_folders_that_a_killed_process_left_are_no_bundles(roots: tuple[Path, Path], name: str) -> None:
    before = bundle_paths.installed_bundles()
    (roots[1] / name).mkdir()
    (roots[1] / name / "manifest.json").write_text("{}")
    assert bundle_paths.installed_bundles() == before


@pytest.mark.parametrize("name", ["dogs", "../wheel", "", "Faces", "/nowhere"])
def test_unknown_names_are_refused_with_what_there_is(roots: tuple[Path, Path], name: str, tmp_path: Path) -> None:
    for source, problem in ((name, ""), (tmp_path, "holds no manifest.json")):
        with pytest.raises(BundleError, match=f"{problem}.*installed bundles: cats-256-lr16, faces-256-lr16"):
            find_bundle(source)


def test_roots_are_the_packages_and_the_checkouts() -> None:
    inside, beside = bundle_paths.bundle_roots()
    assert inside.parts[-2:] == ("edgegrain", "bundles")
    assert beside == inside.parents[1] / "bundles"


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Manifest]:
    """Of three qualities in another order, and one without a quality."""
    root = tmp_path_factory.mktemp("bundles")
    found = tiny_bundle.write_qualities(root)
    other = write_tiny_bundle(root, "other-64-lr16", random=True)
    return [load_manifest(folder) for folder in (found["medium"], other, found["tiny"], found["small"])]


def test_a_bundle_without_quality_is_tried_alone(bundles: list[Manifest]) -> None:
    assert bundles_to_try(bundles[1], bundles, None, 500) == bundles[1:2]
    assert bundles_to_try(bundles[1], bundles, "small", None) == bundles[3:]  # of its domain


def test_other_domains_are_not_tried(bundles: list[Manifest]) -> None:
    base, *others = bundles[3], *(replace(manifest, domain="cats") for manifest in bundles)
    assert bundles_to_try(base, others, None, 500) == [base]
    with pytest.raises(BundleError, match="for anything of quality medium, only: small"):
        bundles_to_try(base, others, "medium", None)


def test_what_is_wrong_is_named(bundles: list[Manifest]) -> None:
    with pytest.raises(BundleError, match="no quality 'huge', only: tiny, small, medium, large"):
        bundles_to_try(bundles[0], bundles, "huge", None)
    with pytest.raises(BundleError, match="of quality large, only: tiny, small, medium; see 'edgegrain bundles'"):
        bundles_to_try(bundles[0], bundles, "large", None)
    with pytest.raises(ImageError, match="max_bytes must be a number of at least 1, got 0"):
        bundles_to_try(bundles[0], bundles, None, 0)


@pytest.fixture(scope="module")
def steered(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return load_manifest(tiny_bundle.write_steered_bundle(tmp_path_factory.mktemp("steered")))


def test_a_control_has_range_and_default(steered: Manifest, tmp_path: Path) -> None:
    assert controls_of(steered) == {"strength": Control(4, 64, STRENGTH_DEFAULT)}
    assert str(controls_of(steered)["strength"]) == "4 to 64, 8 if not given"
    plain = write_tiny_bundle(tmp_path)
    assert controls_of(load_manifest(plain)) == {}
    refresh_manifest(plain, decoder={"controls": ["seed", "unheard-of"]})
    (seed,) = controls_of(load_manifest(plain)).items()
    assert (seed[0], str(seed[1])) == ("seed", "0 to 4294967295")
    refresh_manifest(plain, decoder={"controls": ["strength"]})  # from before ranges were written: the paper's
    assert controls_of(load_manifest(plain))["strength"] == Control(4, 64, 64 / 16)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wanted=st.floats(allow_nan=True, allow_infinity=True) | st.booleans() | st.sampled_from([4, 64, 16.5]))
def test_a_strength_is_taken_or_refused(steered: Manifest, wanted: float) -> None:
    if not isinstance(wanted, bool) and 4 <= wanted <= 64:
        assert strength_of(steered, wanted) == wanted
    else:
        with pytest.raises(ImageError, match="strength of bundle steered-64-lr16 is a number from 4 to 64, got"):
            strength_of(steered, wanted)


def test_the_default_stands_where_none_is_given(steered: Manifest, tmp_path: Path) -> None:
    plain = load_manifest(write_tiny_bundle(tmp_path))
    assert strength_of(steered, None) == STRENGTH_DEFAULT and strength_of(plain, None) is None
    with pytest.raises(ImageError, match="bundle tiny-64-lr16 has no control 'strength'; restore without one"):
        strength_of(plain, 16)


@pytest.mark.parametrize("described", [[4, 64], {"range": [4]}, {"range": 4}, {"default": "high"}])
def test_a_description_that_makes_no_sense(tmp_path: Path, described: object) -> None:
    folder = write_tiny_bundle(tmp_path)
    refresh_manifest(folder, decoder={"controls": ["strength"], "strength": described})
    with pytest.raises(BundleError, match="describes its decoder's controls wrongly: expected"):
        controls_of(load_manifest(folder))
