"""Locked folders: one writer, also if it is killed; nothing stays."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgegrain.pictures.folder_lock import InUseError, only_writer

HOLD = """
import sys
from pathlib import Path
from edgegrain.pictures.folder_lock import only_writer
with only_writer(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_a_folder_has_one_writer_until_its_process_ends(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
                          ) as other:
        assert other.stdout is not None and other.stdout.readline() == b"locked\n"
        with pytest.raises(InUseError, match="another process writes to"), only_writer(tmp_path):
            pass
        other.kill()
        other.wait()
    with only_writer(tmp_path):
        (tmp_path / "mine").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_lock_file_that_was_just_removed_locks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl")
    flock = fcntl.flock

    def after_its_writer_ended(handle: int, operation: int) -> None:
        (tmp_path / ".lock").unlink(missing_ok=True)
        flock(handle, operation)

    monkeypatch.setattr(fcntl, "flock", after_its_writer_ended)
    with pytest.raises(InUseError), only_writer(tmp_path):
        pass


def test_created_folders_stay_only_with_files(tmp_path: Path) -> None:
    with only_writer(tmp_path / "a" / "b"):
        pass
    assert not list(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt), only_writer(tmp_path / "a" / "b"):
        (tmp_path / "a" / "file").touch()
        raise KeyboardInterrupt
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["file"]
