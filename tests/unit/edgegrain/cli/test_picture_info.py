"""``edgegrain info PICTURE``: marks of edgegrain, of other programs, none, and damaged ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sdk
from codec_contract.bundle.paths import DEFAULT_BUNDLE
from codec_contract.version import __version__
from edgegrain.cli.main import app
from sdk.generated_mark import EDITED, GENERATED

pytestmark = pytest.mark.usefixtures("tiny_bundles")


def info(capture: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as leaving:
        app(["info", *map(str, arguments)])
    output = capture.readouterr()
    return int(leaving.value.code or 0), output.out, output.err


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
    restored.save(tmp_path / "bad.jpg", xmp=b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><x/>')
    return tmp_path


def test_lines(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = info(capsys, *(folder / name for name in ("restored.jpg", "other.webp", "odd.webp", "lr.png")))
    assert status == 0 and err == ""
    version = sdk.Codec().bundle.version
    assert out.splitlines() == [
        f"{folder / 'restored.jpg'}", f"  source    {EDITED}", f"  tool      edgegrain {__version__}",
        f"  bundle    {DEFAULT_BUNDLE} {version}",
        f"{folder / 'other.webp'}", "  mark      none of edgegrain", f"  source    {GENERATED}", "  tool      Painter",
        f"{folder / 'odd.webp'}", "  mark      none of edgegrain", f"  source    {GENERATED}", "  tool      ab",
        f"{folder / 'lr.png'}", "  mark      none of edgegrain"]


def test_json_with_payloads_and_failures(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "JUNK.PNG").write_bytes(b"junk")
    status, out, err = info(
        capsys, *(folder / name for name in ("me.grain", "restored.jpg", "lr.png", "bad.jpg", "JUNK.PNG")), "--json")
    payload, restored, lr = json.loads(out)["done"]
    assert status == 1 and payload["bundle"] == DEFAULT_BUNDLE and lr == {"file": str(folder / "lr.png"), "mark": None}
    assert restored["mark"] == {
        "source_type": EDITED, "tool": f"edgegrain {__version__}", "bundle": DEFAULT_BUNDLE,
        "bundle_version": sdk.Codec().bundle.version, "by_edgegrain": True}
    assert f"{folder / 'bad.jpg'}: the picture's XMP has a document type" in err
    assert f"error: {folder / 'JUNK.PNG'} is not a picture" in err
    assert err.endswith("2 of 5 failed\n") and err.count("\n") == 3
