"""The bundles that a built wheel holds."""

import importlib.util
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from codec_contract.bundle.find import DEFAULT_BUNDLE
from codec_contract.bundle.manifest import load_manifest, verify_bundle
from codec_contract.errors import BundleError
from tests.tiny_bundle import refresh_manifest, write_tiny_bundle

MEDIUM = "faces-256-lr32"
Wheel = Callable[..., dict[str, str]]


@pytest.fixture
def wheel(repository: Path, tmp_path: Path) -> Wheel:
    """Runs the hook in a checkout with bundles of three qualities, which have the same enlarger, and one of none; gives
    the files in the wheel: their place there -> their source."""
    spec = importlib.util.spec_from_file_location("hatch_build", repository / "hatch_build.py")
    hook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)
    first = write_tiny_bundle(tmp_path / "made", doublings=2)
    for name, quality in (DEFAULT_BUNDLE, "small"), (MEDIUM, "medium"), ("large", "large"), ("cats", None):
        shutil.copytree(first, tmp_path / "bundles" / name)
        refresh_manifest(tmp_path / "bundles" / name, **({"quality": quality} if quality else {}))

    kept = []  # the hook has the changed manifests

    def run(version: str = "standard") -> dict[str, str]:
        data: dict[str, Any] = {"force_include": {}}
        built = hook.BundleHook(str(tmp_path), {}, None, None, str(tmp_path), "wheel")
        built.initialize(version, data)
        kept.append(built)
        return {place: source for source, place in data["force_include"].items()}

    return run


def bundles_of(files: dict[str, str]) -> set[str]:
    return {place.split("/")[2] for place in files}


def test_bundles_of_the_repository(wheel: Wheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGEGRAIN_WHEEL_BUNDLES", raising=False)
    shutil.rmtree(tmp_path / "bundles" / MEDIUM)
    folder = tmp_path / "bundles" / DEFAULT_BUNDLE
    files = [path for path in folder.rglob("*") if path.is_file()]
    place = f"edgegrain/bundles/{DEFAULT_BUNDLE}"
    expected = {f"{place}/{path.relative_to(folder).as_posix()}": str(path) for path in files}
    found = wheel()
    assert found.pop(f"{place}/manifest.json") != expected.pop(f"{place}/manifest.json")
    assert found == expected
    shutil.copytree(folder, tmp_path / "bundles" / MEDIUM)
    assert bundles_of(wheel()) == {DEFAULT_BUNDLE, MEDIUM, "shared"}
    assert wheel("editable") == {}


def test_encoders_for_phones_only_on_request(
    wheel: Wheel, default_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EDGEGRAIN_WHEEL_BUNDLES", raising=False)
    shutil.rmtree(tmp_path / "bundles" / DEFAULT_BUNDLE)
    shutil.copytree(default_bundle, tmp_path / "bundles" / DEFAULT_BUNDLE)
    shutil.copytree(default_bundle.parent / "shared", tmp_path / "bundles" / "shared")
    whole, phones = load_manifest(default_bundle), ("encoder.tflite", "encoder.mlpackage/")
    for place, source in wheel().items():
        (tmp_path / "site" / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, tmp_path / "site" / place)
    folder = tmp_path / "site/edgegrain/bundles" / DEFAULT_BUNDLE
    verify_bundle(folder)
    installed = load_manifest(folder)
    assert set(whole.files) - set(installed.files) == {name for name in whole.files if name.startswith(phones)}
    assert len(whole.files) - len(installed.files) == 4 and not list(folder.glob("encoder.[tm]*"))
    assert replace(installed, folder=whole.folder, files=whole.files) == whole
    monkeypatch.setenv("EDGEGRAIN_WHEEL_BUNDLES", "all")
    place = f"edgegrain/bundles/{DEFAULT_BUNDLE}"
    assert {f"{place}/encoder.tflite", f"{place}/manifest.json"} <= wheel().keys()


def test_all_qualities(wheel: Wheel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEGRAIN_WHEEL_BUNDLES", "all")
    assert bundles_of(wheel()) == {DEFAULT_BUNDLE, MEDIUM, "large", "shared"}
    monkeypatch.setenv("EDGEGRAIN_WHEEL_BUNDLES", "some")
    with pytest.raises(ValueError, match="set it to 'all'"):
        wheel()


def test_an_enlarger_that_bundles_share_is_held_once(
    wheel: Wheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEGRAIN_WHEEL_BUNDLES", "all")
    files = wheel()
    for place, source in files.items():
        (tmp_path / "site" / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, tmp_path / "site" / place)
    site = tmp_path / "site/edgegrain/bundles"
    assert not list(site.glob("*/enlarger*")) and len(list((site / "shared").iterdir())) == 2
    for name in DEFAULT_BUNDLE, MEDIUM, "large":
        installed, made = (load_manifest(folder / name) for folder in (site, tmp_path / "bundles"))
        one, other = ({file: bundle.open_file(file) for file in bundle.files} for bundle in (installed, made))
        assert one == other
    shutil.copytree(site / "shared", tmp_path / "bundles" / "shared")  # as the checkout may hold it
    for name in MEDIUM, "large":
        [path.unlink() for path in (tmp_path / "bundles" / name).glob("enlarger*")]
    assert wheel().keys() == files.keys()
    monkeypatch.delenv("EDGEGRAIN_WHEEL_BUNDLES")
    shutil.rmtree(tmp_path / "bundles" / DEFAULT_BUNDLE)
    assert len([place for place in wheel() if place.startswith(f"edgegrain/bundles/{MEDIUM}/enlarger")]) == 2
    damaged = next((site / "shared").iterdir())
    damaged.write_bytes(b"other")
    with pytest.raises(BundleError):
        [installed.open_file(file) for file in installed.enlarger.files]
