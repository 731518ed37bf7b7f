"""``edgegrain info``: payloads, scenes, marks of pictures; lines and JSON printed, exit statuses."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sdk
from codec_contract import __version__
from codec_contract.bundle import find as bundle_paths
from codec_contract.bundle.find import DEFAULT_BUNDLE
from sdk.generated_mark import EDITED, GENERATED
from tests.tiny_bundle import HR, LR, write_tiny_bundle
from tests.unit.edgegrain.cli.conftest import Shell, write_payload, write_picture

pytestmark = pytest.mark.usefixtures("tiny_bundles")


class TestInfo:
    def test_lines(self, shell: Shell, tmp_path: Path) -> None:
        path = write_payload(tmp_path / "me.grain")
        out = shell.ok("info", path)
        contract = sdk.bundles()[0].lr_contract_id[:4]
        assert f"\n  size      {path.stat().st_size:,} bytes, " in out and "\n  checked   intact" in out
        assert f"\n  bundle    {DEFAULT_BUNDLE} (LR contract {contract})\n  original  90 x 70 pixels, fit pad\n" in out
        assert f"\n  restored  up to {HR} pixels; larger ones are interpolated\n  LR        {LR} x {LR}\n" in out

    def test_sizes_of_the_bundle(
        self, shell: Shell, tmp_path: Path, tiny_bundles: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = write_payload(tmp_path / "me.grain")
        write_tiny_bundle(tmp_path / "enlarged", DEFAULT_BUNDLE, doublings=2)
        monkeypatch.setattr(bundle_paths, "bundle_roots", lambda: (tmp_path / "enlarged",))
        out = shell.ok("info", path)
        assert "\n  restored  up to 256 pixels (64, 128, 256); restore --size 256\n" in out
        assert shell.json("info", path)["done"][0]["sides"] == [64, 128, 256]
        assert "\n  restored at 64, 128, 256 pixels\n" in shell.ok("bundles")
        monkeypatch.setattr(bundle_paths, "bundle_roots", lambda: (tmp_path / "none",))
        assert "  restored  " not in shell.ok("info", path)

    def test_a_file_with_the_text(self, shell: Shell, tmp_path: Path) -> None:
        path, text = write_payload(tmp_path / "me.grain"), tmp_path / "me.txt"
        text.write_text(sdk.Payload(path.read_bytes()).text("base45") + "\n")
        rows = shell.json("info", path, text)["done"]
        assert rows[1] == {**rows[0], "file": str(text)}

    def test_folder(self, shell: Shell, tmp_path: Path) -> None:
        sizes = []
        for index, name in enumerate(["a", "deep/long name"]):
            picture = write_picture(tmp_path / "me.png", seed=index, size=(90, 70 + 1000 * index))
            sizes.append((tmp_path / "in" / f"{name}.grain", len(sdk.compress(picture, fit="crop"))))
            sdk.compress(picture, fit="crop").save(sizes[-1][0])
        out = shell.ok("info", tmp_path / "in")
        (short, little), (long, much) = sizes
        assert out.splitlines() == [
            f"{short}: {little} bytes, 90 x 70, crop, {DEFAULT_BUNDLE}, intact",
            f"{long}: {much} bytes, 90 x 1070, crop, {DEFAULT_BUNDLE}, intact",
            f"2 payloads, {little + much:,} bytes",
        ]
        (tmp_path / "in" / "bad.grain").write_bytes(b"nothing of the kind, really")
        status, out, err = shell("info", tmp_path / "in", "--json")
        report, bad = json.loads(out), tmp_path / "in" / "bad.grain"
        assert status == 1 and [row["file"] for row in report["done"]] == [str(short), str(long)]
        assert report["done"][0]["original_size"] == [90, 70] and report["failed"][0]["file"] == str(bad)
        assert err.startswith(f"error: {bad}: not a payload") and err.endswith("1 of 3 failed\n")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A payload, its picture, and pictures with another program's mark, none, and a malicious one."""
    payload = sdk.compress(np.full((64, 64, 3), 128, np.uint8))
    payload.save(tmp_path / "me.grain")
    restored = sdk.restore(payload)
    restored.save(tmp_path / "restored.jpg")
    restored.save(tmp_path / "other.webp", xmp=sdk.GeneratedMark(GENERATED, "Pain\u009bter").xmp())
    restored.save(tmp_path / "odd.webp", xmp=sdk.GeneratedMark(GENERATED, "x").xmp().replace(b'"x"', b'"a\xc2\x9bb"'))
    Image.fromarray(payload.lr).save(tmp_path / "lr.png")
    restored.save(tmp_path / "bad.jpg", xmp=b"<x>")
    return tmp_path


def test_marks_of_pictures(folder: Path, shell: Shell) -> None:
    out = shell.ok("info", *(folder / name for name in ("restored.jpg", "other.webp", "odd.webp", "lr.png")))
    version = sdk.Codec().bundle.version
    none = "\n  mark      none of edgegrain\n"
    own = f"\n  source    {EDITED}\n  tool      edgegrain {__version__}\n  bundle    {DEFAULT_BUNDLE} {version}\n"
    assert out == (
        f"{folder / 'restored.jpg'}{own}"
        f"{folder / 'other.webp'}{none}  source    {GENERATED}\n  tool      Painter\n"
        f"{folder / 'odd.webp'}{none}  source    {GENERATED}\n  tool      a\\x9bb\n"
        f"{folder / 'lr.png'}{none}"
    )


def test_json_with_payloads_and_failures(folder: Path, shell: Shell) -> None:
    (folder / "JUNK.PNG").write_bytes(b"junk")
    names = "me.grain", "restored.jpg", "lr.png", "bad.jpg", "JUNK.PNG"
    status, out, err = shell("info", *(folder / name for name in names), "--json")
    payload, restored, lr = json.loads(out)["done"]
    assert status == 1 and payload["bundle"] == DEFAULT_BUNDLE and lr == {"file": str(folder / "lr.png"), "mark": None}
    mark = {"source_type": EDITED, "tool": f"edgegrain {__version__}", "by_edgegrain": True}
    assert restored["mark"] == {**mark, "bundle": DEFAULT_BUNDLE, "bundle_version": sdk.Codec().bundle.version}
    assert f"{folder / 'bad.jpg'}: the picture's XMP is not well-formed" in err
    assert f"error: {folder / 'JUNK.PNG'} is not a picture" in err
    assert err.endswith("2 of 5 failed\n") and err.count("\n") == 3
