"""Controls of a bundle: ranges, defaults, and refused values."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codec_contract.bundle.find import Control, controls_of, strength_of
from codec_contract.bundle.manifest import Manifest, load_manifest
from codec_contract.errors import BundleError, ImageError
from tests.tiny_bundle import STRENGTH_DEFAULT, refresh_manifest, write_steered_bundle, write_tiny_bundle


@pytest.fixture(scope="module")
def steered(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return load_manifest(write_steered_bundle(tmp_path_factory.mktemp("steered")))


def test_a_control_has_range_and_default(steered: Manifest, tmp_path: Path) -> None:
    assert controls_of(steered) == {"strength": Control(4, 64, STRENGTH_DEFAULT)}
    assert str(controls_of(steered)["strength"]) == "4 to 64, 8 if not given"
    plain = write_tiny_bundle(tmp_path)
    assert controls_of(load_manifest(plain)) == {}
    refresh_manifest(plain, decoder={"controls": ["seed", "unheard-of"]})
    assert {name: str(control) for name, control in controls_of(load_manifest(plain)).items()} == {
        "seed": "0 to 4294967295"}


def test_a_bundle_from_before_ranges_were_written_has_the_paper_s(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path)
    refresh_manifest(folder, decoder={"controls": ["strength"]})
    assert controls_of(load_manifest(folder))["strength"] == Control(4, 64, 64 / 16)


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


@pytest.mark.parametrize("described", [
    [4, 64], {"range": [4]}, {"range": "4"}, {"range": [8, 4]}, {"range": [4, 64], "default": 65}, {"range": [0, 64]},
    {"range": [4, float("inf")]}, {"range": [4, 10**400]}, {"default": "16"}])
def test_a_description_that_makes_no_sense(tmp_path: Path, described: object) -> None:
    folder = write_tiny_bundle(tmp_path)
    refresh_manifest(folder, decoder={"controls": ["strength"], "strength": described})
    with pytest.raises(BundleError, match="bundle tiny-64-lr16 describes no strength: expected"):
        controls_of(load_manifest(folder))
