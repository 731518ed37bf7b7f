"""The bundles that a built wheel holds."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from codec_contract.bundle.paths import DEFAULT_BUNDLE


@pytest.fixture
def included(repository: Path, tmp_path: Path) -> Any:
    """Runs the hook in a checkout with bundles of two qualities and one without; gives the folders in the wheel."""
    spec = importlib.util.spec_from_file_location("hatch_build", repository / "hatch_build.py")
    hook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)
    for name, manifest in (DEFAULT_BUNDLE, {"quality": "small"}), ("large", {"quality": "large"}), ("cats", {}):
        (tmp_path / "bundles" / name).mkdir(parents=True)
        (tmp_path / "bundles" / name / "manifest.json").write_text(json.dumps(manifest))

    def run(version: str = "standard") -> list[str]:
        data: dict[str, Any] = {"force_include": {}}
        built = hook.BundleHook(str(tmp_path), {}, None, None, str(tmp_path), "wheel")
        built.initialize(version, data)
        return list(data["force_include"].values())

    return run


def test_the_default_bundle_alone(included: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGEGRAIN_WHEEL_BUNDLES", raising=False)
    assert included() == [f"edgegrain/bundles/{DEFAULT_BUNDLE}"]
    assert included("editable") == []


def test_all_qualities(included: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEGRAIN_WHEEL_BUNDLES", "all")
    assert included() == [f"edgegrain/bundles/{DEFAULT_BUNDLE}", "edgegrain/bundles/large"]
    monkeypatch.setenv("EDGEGRAIN_WHEEL_BUNDLES", "some")
    with pytest.raises(ValueError, match="set it to 'all'"):
        included()
