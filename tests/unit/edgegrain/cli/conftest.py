"""The command line's tests run it in this process, on tiny bundles in place of the installed ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgegrain.cli.main import app
from tests.tiny_bundle import tiny_bundles, tiny_face_bundles, tiny_root

__all__ = ["Shell", "shell", "tiny_bundles", "tiny_face_bundles", "tiny_root", "write_picture"]


def write_picture(path: Path, seed: int = 0, size: tuple[int, int] = (90, 70)) -> Path:
    """Write a picture of random pixels; ``size`` is its width and height."""
    rgb = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rgb).save(path)
    return path


class Shell:
    """Runs the command line in this process."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self.capture = capture

    def __call__(self, *arguments: object) -> tuple[int, str, str]:
        """(exit status, stdout, stderr)."""
        with pytest.raises(SystemExit) as leaving:
            app([str(argument) for argument in arguments])
        output = self.capture.readouterr()
        return int(leaving.value.code or 0), output.out, output.err


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)
