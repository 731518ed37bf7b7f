"""The command line's tests run it in this process, on tiny bundles in place of the installed ones."""

from __future__ import annotations

import pytest

from edgegrain.cli.main import app
from tests.tiny_bundle import tiny_bundles, tiny_root

__all__ = ["Shell", "shell", "tiny_bundles", "tiny_root"]


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
