"""``edgegrain faces`` and ``compress --require-face``."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from edgegrain.cli.main import app

pytestmark = pytest.mark.usefixtures("tiny_bundles")


@pytest.fixture
def pictures(portrait: np.ndarray, tmp_path: Path) -> Path:
    """A folder with a face, two faces, and no picture."""
    Image.fromarray(portrait).save(tmp_path / "one.png")
    Image.fromarray(np.concatenate([portrait, portrait], axis=1)).save(tmp_path / "two.png")
    Image.fromarray(portrait).save(tmp_path / "one.bmp")  # the same name but for the suffix
    return tmp_path


def run(capture: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as leaving:
        app(list(map(str, arguments)))
    output = capture.readouterr()
    return int(leaving.value.code or 0), output.out, output.err


def test_one_face(capsys: pytest.CaptureFixture[str], pictures: Path) -> None:
    status, out, err = run(capsys, "faces", pictures / "one.png")
    assert status == 0 and err == ""
    first, second = out.splitlines()
    assert first == f"{pictures / 'one.png'}: one face that can be encoded"
    assert " pixels (6" in second and ", roll -" in second and " degrees, score 0.9" in second


def test_a_picture_on_standard_input(
        capsys: pytest.CaptureFixture[str], pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(
        buffer=io.BytesIO((pictures / "one.png").read_bytes()), isatty=lambda: False))
    status, out, _ = run(capsys, "faces", "-")
    assert status == 0 and out.startswith("-: one face that can be encoded")
    assert run(capsys, "faces", pictures / "none.png")[0] == 2


def test_a_problem_is_an_exit_status(capsys: pytest.CaptureFixture[str], pictures: Path) -> None:
    status, out, err = run(capsys, "faces", pictures, "--json")
    report = json.loads(out)
    assert status == 1 and err == "" and report["failed"] == []
    rows = {Path(row["picture"]).name: row for row in report["done"]}
    assert rows["one.png"]["problems"] == rows["one.bmp"]["problems"] == []
    assert rows["two.png"]["problems"] == ["several", "too-small"] and len(rows["two.png"]["faces"]) == 2
    assert "2 faces are in the picture" in rows["two.png"]["message"]
    assert run(capsys, "faces", pictures, "--align")[0] == 0


def test_a_file_that_is_no_picture(capsys: pytest.CaptureFixture[str], pictures: Path) -> None:
    (pictures / "junk.png").write_bytes(b"junk")
    status, out, err = run(capsys, "faces", pictures / "junk.png", pictures / "one.png")
    assert status == 1 and "one face that can be encoded" in out and err.startswith("error: ") and "junk.png" in err


def test_limit(capsys: pytest.CaptureFixture[str], pictures: Path) -> None:
    status, out, err = run(capsys, "faces", pictures / "one.png", pictures / "two.png", "--max-megapixels", "0.07")
    assert status == 1 and "one.png: one face that can be encoded" in out
    assert "two.png claims 512 x 256 pixels, more than 70000; reduce it first" in err


def test_a_required_face(capsys: pytest.CaptureFixture[str], pictures: Path) -> None:
    status, out, err = run(capsys, "compress", pictures / "one.png", pictures / "two.png", "--require-face")
    assert status == 1 and "one.png -> " in out and (pictures / "one.grain").exists()
    assert f"error: {pictures / 'two.png'}: 2 faces are in the picture; crop it" in err
    assert not (pictures / "two.grain").exists()


def test_a_required_face_is_searched_for_before_a_service_is_asked(
    capsys: pytest.CaptureFixture[str], pictures: Path
) -> None:
    pytest.importorskip("httpx", reason="needs the extra remote")
    arguments = "--require-face", "--remote", "http://127.0.0.1:1"
    status, _, err = run(capsys, "compress", pictures / "two.png", *arguments)
    assert status == 1 and "2 faces are in the picture" in err
