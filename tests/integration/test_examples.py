"""The scripts of ``examples/`` run as written."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sdk
from tests.programs import ROOT, run


@pytest.fixture
def folder(tmp_path: Path, portrait_path: Path, default_bundle: Path) -> Path:
    """An empty folder with the portrait as me.jpg."""
    shutil.copy(portrait_path, tmp_path / "me.jpg")
    return tmp_path


def test_round_trip_example(folder: Path) -> None:
    output = run([sys.executable, ROOT / "examples/round_trip.py", "me.jpg", "out"], folder)
    payload = (folder / "out/picture.grain").read_bytes()
    assert f"{len(payload)} bytes" in output
    with Image.open(folder / "out/lr.png") as image:
        assert np.array_equal(np.asarray(image)[8::16, 8::16], sdk.Payload(payload).lr)
    with Image.open(folder / "out/restored.png") as image:
        assert image.size == (256, 256)


def test_compress_folder_example(folder: Path) -> None:
    (folder / "notes.txt").write_text("no picture")
    with Image.open(folder / "me.jpg") as image:
        image.save(folder / "me.png")
    Image.new("RGB", (8, 8)).save(folder / "none.png")
    output = run([sys.executable, ROOT / "examples/compress_folder.py", ".", "payloads"], folder)
    assert "notes.txt: skipped" in output and "none.png: skipped, no face was found" in output
    for name in ("me.jpg", "me.png"):
        assert (folder / f"payloads/{name}.grain").read_bytes() == bytes(sdk.compress(folder / name))
