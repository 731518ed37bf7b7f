"""``edgegrain bundles`` on tiny bundles: lines and JSON printed, exit statuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from codec_contract.bundle.find import DEFAULT_BUNDLE
from codec_contract.bundle.manifest import load_manifest, verify_bundle
from tests.tiny_bundle import write_tiny_bundle
from tests.unit.edgegrain.cli.conftest import Shell

pytestmark = pytest.mark.usefixtures("tiny_bundles")


class TestBundles:
    @pytest.fixture(autouse=True)
    def empty_cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("EDGEGRAIN_CACHE", str(tmp_path / "cache"))

    def test_lines(self, shell: Shell) -> None:
        status, out, _ = shell("bundles")
        assert status == 0
        assert f"{DEFAULT_BUNDLE}, faces, version 1.0.0\n  anything, grain: 64 x 64 pixels <-> LR 16 x 16\n" in out
        assert "random-64-lr16, version 1.0.0\n" in out and "licence of weights: Apache-2.0" in out

    def test_json(self, shell: Shell) -> None:
        status, out, _ = shell("bundles", "--json", "--verify")
        assert status == 0
        rows = json.loads(out)
        assert [(row["id"], row["verified"]) for row in rows] == [(DEFAULT_BUNDLE, True), ("random-64-lr16", True)]

    def test_altered(self, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = write_tiny_bundle(tmp_path)
        (folder / "README.md").write_text("altered")
        monkeypatch.setattr("codec_contract.bundle.find.bundle_roots", lambda: (tmp_path,))
        assert shell("bundles")[0] == 0
        status, _, err = shell("bundles", "--verify")
        assert status == 1 and "README.md of bundle tiny-64-lr16 is altered" in err

    def test_all_altered_ones_are_named(self, shell: Shell, tmp_path: Path) -> None:
        folders = [write_tiny_bundle(tmp_path / name) for name in ("first", "intact", "last")]
        for folder in (folders[0], folders[2]):
            (folder / "README.md").write_text("altered")
        status, out, err = shell("bundles", "show", *folders, "--verify")
        assert status == 1 and err.count("README.md of bundle tiny-64-lr16 is altered") == 2
        states = [line for line in out.splitlines() if line.startswith("tiny-64-lr16, version")]
        assert [line.rpartition(", ")[2] for line in states] == ["not intact", "every file verified", "not intact"]
        status, out, _ = shell("bundles", "show", *folders, "--verify", "--json")
        assert status == 1 and [row["verified"] for row in json.loads(out)] == [False, True, False]

    def test_one_that_is_not_installed(self, shell: Shell, tmp_path: Path) -> None:
        folder = write_tiny_bundle(tmp_path)
        status, out, _ = shell("bundles", "show", folder, "--verify")
        assert status == 0
        assert out.startswith("tiny-64-lr16, version 1.0.0, every file verified\n") and f"MB in {folder}\n" in out
        status, out, _ = shell("bundles", "show", folder, "random-64-lr16", "--json")
        assert [row["id"] for row in json.loads(out)] == ["tiny-64-lr16", "random-64-lr16"]
        status, _, err = shell("info", folder)
        assert status == 2 and "'edgegrain bundles show'" in err
        status, _, err = shell("bundles", "show", tmp_path / "none")
        assert status == 1 and "there is no bundle" in err
        (folder / "README.md").write_text("altered")
        assert shell("bundles", "show", folder)[0] == 0 and shell("bundles", "show", folder, "--verify")[0] == 1

    def test_naming_the_quality_keeps_payloads(self, shell: Shell, tmp_path: Path) -> None:
        folder = write_tiny_bundle(tmp_path)
        before = load_manifest(folder)
        assert shell("bundles", "quality", folder, "small") == (0, "tiny-64-lr16: quality small\n", "")
        after = verify_bundle(folder)
        assert after.quality == "small" and replace(after, quality=None) == before
        assert shell("bundles", "quality", folder, "large")[0] == 0 and load_manifest(folder).quality == "large"
        status, _, err = shell("bundles", "quality", folder, "huge")
        assert status == 2 and "'huge' is not one of" in err

    @pytest.mark.parametrize("subcommand", ["show", "quality"])
    def test_an_option_before_a_subcommand_is_refused(self, shell: Shell, subcommand: str) -> None:
        status, out, err = shell("bundles", "--verify", "--json", subcommand, "faces")
        assert status == 2 and out == ""
        assert f"for --verify, --json: write it after {subcommand}" in " ".join(err.split())

    def test_none(self, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("codec_contract.bundle.find.bundle_roots", lambda: (tmp_path,))
        assert shell("bundles") == (0, f"no bundles are installed (looked in {tmp_path})\n", "")
