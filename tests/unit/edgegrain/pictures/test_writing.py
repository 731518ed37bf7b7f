"""Arrays in files, and folders with one writer."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from codec_contract.errors import EdgegrainError
from edgegrain.pictures.writing import only_writer, write_array

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 30, 50), np.uint8)


def test_one_of_several_writes_the_array_and_the_others_wait(tmp_path: Path) -> None:
    target, written = tmp_path / "folder" / "array.npy", []

    def rows() -> Iterator[np.ndarray]:
        written.append(target)
        yield from (PIXELS[:1], PIXELS[1:])

    with ThreadPoolExecutor(3) as several:
        list(several.map(lambda _: write_array(target, PIXELS.shape, rows()), range(3)))
    assert written == [target]
    np.testing.assert_array_equal(np.load(target, mmap_mode="r"), PIXELS)


def test_an_array_that_is_not_complete_leaves_no_file_and_can_be_written_again(tmp_path: Path) -> None:
    def rows() -> Iterator[np.ndarray]:
        yield PIXELS[0]
        raise EdgegrainError

    with pytest.raises(EdgegrainError):
        write_array(tmp_path / "array.npy", PIXELS.shape, rows())
    assert not list(tmp_path.glob("[!.]*")) and not list(tmp_path.glob(".*.partial"))
    write_array(tmp_path / "array.npy", PIXELS.shape, PIXELS)
    np.testing.assert_array_equal(np.load(tmp_path / "array.npy"), PIXELS)


HOLD = """
import sys
from pathlib import Path
from edgegrain.pictures.writing import only_writer
with only_writer(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_a_folder_has_one_writer_until_its_process_ends(tmp_path: Path) -> None:
    command, pipe = [sys.executable, "-c", HOLD, tmp_path], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as other:
        assert other.stdout is not None and other.stdout.readline() == b"locked\n"
        with pytest.raises(EdgegrainError, match="another process writes to"), only_writer(tmp_path):
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
    with pytest.raises(EdgegrainError, match="another process"), only_writer(tmp_path):
        pass


def test_created_folders_stay_only_with_files(tmp_path: Path) -> None:
    with only_writer(tmp_path / "a" / "b"):
        pass
    assert not list(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt), only_writer(tmp_path / "a" / "b"):
        (tmp_path / "a" / "file").touch()
        raise KeyboardInterrupt
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["file"]
