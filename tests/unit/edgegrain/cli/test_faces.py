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

from tests.unit.edgegrain.cli.conftest import Shell

pytestmark = pytest.mark.usefixtures("tiny_face_bundles")


@pytest.fixture
def pictures(portrait: np.ndarray, tmp_path: Path) -> Path:
    """A folder with a face, another file of it, and half a face."""
    Image.fromarray(portrait).save(tmp_path / "one.png")
    Image.fromarray(portrait[:, :125]).save(tmp_path / "half.png")
    Image.fromarray(portrait).save(tmp_path / "one.bmp")  # the same name but for the suffix
    return tmp_path


def test_one_face(shell: Shell, pictures: Path) -> None:
    status, out, err = shell("faces", pictures / "one.png")
    assert status == 0 and err == ""
    first, second = out.splitlines()
    assert first == f"{pictures / 'one.png'}: the largest face can be encoded"
    assert " pixels (6" in second and ", roll 0" in second and " degrees, score 0.9" in second


def test_a_picture_on_standard_input(
        shell: Shell, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(
        buffer=io.BytesIO((pictures / "one.png").read_bytes()), isatty=lambda: False))
    status, out, _ = shell("faces", "-")
    assert status == 0 and out.startswith("-: the largest face can be encoded")
    assert shell("faces", pictures / "none.png")[0] == 2


def test_a_problem_is_an_exit_status(shell: Shell, pictures: Path) -> None:
    status, out, err = shell("faces", pictures, "--json")
    report = json.loads(out)
    assert status == 1 and err == "" and report["failed"] == []
    rows = {Path(row["picture"]).name: row for row in report["done"]}
    assert rows["one.png"]["problems"] == rows["one.bmp"]["problems"] == []
    assert rows["half.png"]["problems"] == ["cut-off"] and "cut off by the picture" in rows["half.png"]["message"]
    assert shell("faces", pictures / "one.png", "--all-faces")[0] == 0


def test_a_file_that_is_no_picture(shell: Shell, pictures: Path) -> None:
    (pictures / "junk.png").write_bytes(b"junk")
    status, out, err = shell("faces", pictures / "junk.png", pictures / "one.png")
    assert status == 1 and "the largest face can be encoded" in out and err.startswith("error: ") and "junk.png" in err


def test_limit(shell: Shell, pictures: Path) -> None:
    status, out, err = shell("faces", pictures / "one.png", pictures / "half.png", "--max-megapixels", "0.05")
    assert status == 1 and "half.png: the face is cut off" in out
    assert "one.png claims 256 x 256 pixels, more than 50000; reduce it first" in err


def test_a_required_face(shell: Shell, pictures: Path) -> None:
    status, out, err = shell("compress", pictures / "one.png", pictures / "half.png", "--require-face")
    assert status == 1 and "one.png -> " in out and (pictures / "one.grain").exists()
    assert f"error: {pictures / 'half.png'}: the face is cut off by the picture's edge" in err
    assert not (pictures / "half.grain").exists()


def test_a_required_face_is_searched_for_before_a_service_is_asked(
    shell: Shell, pictures: Path
) -> None:
    pytest.importorskip("httpx", reason="needs the extra remote")
    arguments = "--require-face", "--remote", "http://127.0.0.1:1"
    status, _, err = shell("compress", pictures / "half.png", *arguments)
    assert status == 1 and "the face is cut off" in err
