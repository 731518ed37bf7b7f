"""``edgegrain bundles`` on tiny bundles: lines and JSON printed, exit statuses."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from codec_contract.bundle.find import DEFAULT_BUNDLE
from codec_contract.bundle.manifest import load_manifest, verify_bundle
from tests.tiny_bundle import add_rates, refresh_manifest, write_tiny_bundle
from tests.unit.edgegrain.cli.conftest import Shell

pytestmark = pytest.mark.usefixtures("tiny_bundles")


class TestBundles:
    @pytest.fixture(autouse=True)
    def empty_cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("EDGEGRAIN_CACHE", str(tmp_path / "cache"))

    def test_lines(self, shell: Shell) -> None:
        out = shell.ok("bundles")
        assert f"{DEFAULT_BUNDLE}, faces, version 1.0.0\n  anything, grain: 64 x 64 pixels <-> LR 16 x 16\n" in out
        assert "random-64-lr16, version 1.0.0\n" in out and "licence of weights: Apache-2.0" in out

    def test_json(self, shell: Shell) -> None:
        rows = shell.json("bundles", "--verify")
        assert [(row["id"], row["verified"]) for row in rows] == [(DEFAULT_BUNDLE, True), ("random-64-lr16", True)]

    def test_altered(self, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folders = [write_tiny_bundle(tmp_path / name) for name in ("first", "intact", "last")]
        for folder in (folders[0], folders[2]):
            (folder / "README.md").write_text("altered")
        shell.ok("bundles", "show", *folders)
        status, out, err = shell("bundles", "show", *folders, "--verify")
        assert status == 1 and err.count("README.md of bundle tiny-64-lr16 is altered") == 2
        states = [line for line in out.splitlines() if line.startswith("tiny-64-lr16, version")]
        assert [line.rpartition(", ")[2] for line in states] == ["not intact", "every file verified", "not intact"]
        status, out, _ = shell("bundles", "show", *folders, "--verify", "--json")
        assert status == 1 and [row["verified"] for row in json.loads(out)] == [False, True, False]
        monkeypatch.setattr("codec_contract.bundle.find.bundle_roots", lambda: (tmp_path / "first",))
        shell.ok("bundles")
        shell.fails("README.md of bundle tiny-64-lr16 is altered", "bundles", "--verify")

    def test_one_that_is_not_installed(self, shell: Shell, tmp_path: Path) -> None:
        folder = write_tiny_bundle(tmp_path)
        out = shell.ok("bundles", "show", folder, "--verify")
        assert out.startswith("tiny-64-lr16, version 1.0.0, every file verified\n") and f"MB in {folder}\n" in out
        rows = shell.json("bundles", "show", folder, "random-64-lr16")
        assert [row["id"] for row in rows] == ["tiny-64-lr16", "random-64-lr16"]
        shell.fails("there is no bundle", "bundles", "show", tmp_path / "none")

    def test_naming_the_quality_keeps_payloads(self, shell: Shell, tmp_path: Path) -> None:
        folder = write_tiny_bundle(tmp_path)
        before = load_manifest(folder)
        assert shell.ok("bundles", "quality", folder, "small") == "tiny-64-lr16: quality small\n"
        after = verify_bundle(folder)
        assert after.quality == "small" and replace(after, quality=None) == before
        shell.ok("bundles", "quality", folder, "large")
        assert load_manifest(folder).quality == "large"
        shell.fails("'huge' is not one of", "bundles", "quality", folder, "huge", status=2)

    def test_a_further_rate_is_named_by_its_step(self, shell: Shell, tmp_path: Path) -> None:
        folder = write_tiny_bundle(tmp_path)
        add_rates(folder, {8: None, 32: None})
        shell.ok("bundles", "quality", folder, "small")
        shell.ok("bundles", "quality", folder, "tiny", "--step", 32)
        assert [rate.quality for rate in verify_bundle(folder).rates] == ["small", None, "tiny"]
        shown = shell.ok("bundles", "show", folder)
        assert "  quality small, tiny; 3 rates\n" in shown
        refresh_manifest(folder, domain="faces")
        found = "  quality small (about 337 bytes), tiny (about 161 bytes); 3 rates\n"
        assert found in shell.ok("bundles", "show", folder)
        shell.fails("has no rate of step 9", "bundles", "quality", folder, "tiny", "--step", 9)

    def test_none(self, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("codec_contract.bundle.find.bundle_roots", lambda: (tmp_path,))
        assert shell.ok("bundles") == f"no bundles are installed (looked in {tmp_path})\n"
