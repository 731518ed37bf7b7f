"""The command line's tests run it in this process, on tiny bundles in place of the installed ones."""

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

import sdk
from edgegrain.__main__ import app
from tests.pictures import noise
from tests.tiny_bundle import tiny_bundles, tiny_face_bundles, tiny_face_root, tiny_root

__all__ = ["tiny_bundles", "tiny_face_bundles", "tiny_face_root", "tiny_root"]


def write_picture(path: Path, seed: int = 0, size: tuple[int, int] = (90, 70)) -> Path:
    """Write a picture of random pixels; ``size`` is its width and height."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(*size, seed)).save(path)
    return path


def write_payload(path: Path, **options: Any) -> Path:
    """Write the payload of the picture of `write_picture`."""
    return sdk.compress(noise(90, 70), **options).save(path)


def pipe_in(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    """Let standard input have these bytes."""
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))


class Shell:
    """Runs the command line in this process, with ``words`` before the arguments."""

    def __init__(self, capture: pytest.CaptureFixture[str], *words: str) -> None:
        self.capture, self.words = capture, words

    def __call__(self, *arguments: object) -> tuple[int, str, str]:
        """(exit status, stdout, stderr)."""
        with pytest.raises(SystemExit) as leaving:
            app([*self.words, *map(str, arguments)])
        output = self.capture.readouterr()
        return int(leaving.value.code or 0), output.out, output.err

    def ok(self, *arguments: object) -> str:
        """Stdout of a command that succeeds."""
        status, out, err = self(*arguments)
        assert status == 0, err
        return out

    def json(self, *arguments: object) -> Any:
        """What a command that succeeds prints with ``--json``."""
        return json.loads(self.ok(*arguments, "--json"))

    def fails(self, said: str, *arguments: object, status: int = 1) -> str:
        """Stderr of a command that ends with the status and says this, on however many lines."""
        found, _, err = self(*arguments)
        assert found == status and said in " ".join(err.split()), (found, err)
        return err


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A picture ``me.png`` in the test's folder."""
    return write_picture(tmp_path / "me.png")
