"""Arrays in files: space is reserved first, and nothing is left of an array that is not complete."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from codec_contract.errors import EdgegrainError
from edgegrain.pictures.writing import InUseError, exit_on_sigterm, first_to_write, only_writer, written_array

SHAPE = (3, 300, 500)


@pytest.mark.parametrize("reserving", ["posix_fallocate", "zeros"])
def test_the_array_has_its_space_before_it_is_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reserving: str
                                                    ) -> None:
    if reserving == "zeros":
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    target = tmp_path / "folder" / "array.npy"
    pixels = np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)
    with written_array(target, SHAPE) as array:
        (temporary,) = target.parent.iterdir()
        assert temporary != target and 512 * temporary.stat().st_blocks >= array.nbytes
        array[:] = pixels
    assert list(target.parent.iterdir()) == [target]
    np.testing.assert_array_equal(np.load(target), pixels)


def test_a_full_disk_is_an_error_and_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = Mock(side_effect=OSError(errno.ENOSPC, "No space left on device"))
    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with (pytest.raises(EdgegrainError, match=r"cannot take a file of 450,000 bytes \(No space left on device\)"),
          written_array(tmp_path / "array.npy", SHAPE)):
        pass
    assert not list(tmp_path.iterdir())


def test_one_of_several_writes_and_the_others_wait(tmp_path: Path) -> None:
    target, reports = tmp_path / "folder" / "array.npy", []

    def want(_: int) -> bool:
        with first_to_write(target, lambda part, line: reports.append((part, line))) as first:
            if first:
                time.sleep(0.1)
                target.write_bytes(b"")
        return first

    with ThreadPoolExecutor(3) as several:
        assert sorted(several.map(want, range(3))) == [False, False, True]
    assert reports == 2 * [(0.0, "waiting for another process, which prepares the pictures")]
    assert not want(3) and len(reports) == 2
    assert list(target.parent.iterdir()) == [target]


def test_the_next_writes_what_the_first_could_not(tmp_path: Path) -> None:
    with pytest.raises(EdgegrainError), first_to_write(tmp_path / "array.npy"):
        raise EdgegrainError
    assert not list(tmp_path.iterdir())
    with first_to_write(tmp_path / "array.npy") as first:
        assert first


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_sigterm_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(SystemExit), written_array(tmp_path / "array.npy", SHAPE):
        os.kill(os.getpid(), signal.SIGTERM)
    assert not list(tmp_path.iterdir())


HOLD = """
import sys
from pathlib import Path
from edgegrain.pictures.writing import only_writer
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


pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


def test_sigterm_is_an_exit_inside_and_has_its_usual_effect_outside() -> None:
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    with pytest.raises(SystemExit) as ended, exit_on_sigterm():
        os.kill(os.getpid(), signal.SIGTERM)
    assert ended.value.code == 143 and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_handler_of_the_program_stays() -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:
        with exit_on_sigterm():
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [signal.SIGTERM]


def test_other_threads_have_no_handlers() -> None:
    found: list[object] = []

    def look() -> None:
        with exit_on_sigterm():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [signal.SIG_DFL]
