"""The README's Python and console blocks and the scripts of ``examples/`` are executed as written."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sdk
from edgegrain.cli.main import app as edgegrain

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def console_lines() -> list[str]:
    return [line.removeprefix("$ ") for block in blocks("console") for line in block.splitlines()
            if line.startswith("$ ")]


def run(command: list[str], folder: Path) -> str:
    """Output of a command that must succeed, run in ``folder`` with the environment's scripts."""
    scripts = os.path.dirname(sys.executable)
    environment = {**os.environ, "PATH": os.pathsep.join([scripts, os.environ["PATH"]]), "PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, f"{command}:\n{result.stdout}\n{result.stderr}"
    return result.stdout


@pytest.fixture
def folder(tmp_path: Path, portrait_path: Path, default_bundle: Path) -> Path:
    """An empty folder with the portrait as me.jpg."""
    shutil.copy(portrait_path, tmp_path / "me.jpg")
    return tmp_path


def test_the_readme_has_examples() -> None:
    assert len(blocks("python")) >= 2
    assert len(console_lines()) >= 5


def test_the_blocks_run_in_order_and_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """First all of them in processes of their own; then those that write, in the same folder and in this process."""
    for block in blocks("python"):
        run([sys.executable, "-c", block], folder)
    assert {path.name for path in folder.iterdir()} == {"me.jpg", "me.grain", "restored.png"}
    for line in console_lines():
        assert run(["bash", "-c", line], folder).strip(), f"{line}: no output"
    monkeypatch.chdir(folder)
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), {})  # noqa: S102 - our own page
    for line in console_lines():
        if line.split()[1] not in ("compress", "restore"):
            continue
        with pytest.raises(SystemExit) as left:
            edgegrain(shlex.split(line)[1:])
        assert not left.value.code, line

    one, of_many = (sdk.Payload((folder / name).read_bytes()) for name in ("me.grain", "payloads/me.grain"))
    assert (one.fit, of_many.fit) == ("pad", "crop")
    assert np.array_equal(one.lr, of_many.lr)  # both policies keep all of a square picture
    assert bytes(one) == bytes(sdk.compress(folder / "me.jpg"))
    with Image.open(folder / "back.png") as image:
        # Decoded in floats by two processes.
        assert np.abs(np.asarray(image).astype(int) - np.asarray(sdk.restore(one))).max() <= 1


def test_round_trip_example(folder: Path) -> None:
    output = run([sys.executable, str(ROOT / "examples/round_trip.py"), "me.jpg", "out"], folder)
    payload = (folder / "out/picture.grain").read_bytes()
    assert f"{len(payload)} bytes" in output
    with Image.open(folder / "out/lr.png") as image:
        assert np.array_equal(np.asarray(image)[8::16, 8::16], sdk.Payload(payload).lr)
    with Image.open(folder / "out/restored.png") as image:
        assert image.size == (256, 256)


def test_compress_folder_example(folder: Path) -> None:
    (folder / "notes.txt").write_text("no picture")
    output = run([sys.executable, str(ROOT / "examples/compress_folder.py"), ".", "payloads"], folder)
    assert "notes.txt: skipped" in output
    assert (folder / "payloads/me.grain").read_bytes() == bytes(sdk.compress(folder / "me.jpg"))
