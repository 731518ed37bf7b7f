"""Ray's environment without Ray, and its folders."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
from pathlib import Path

import pytest

from codec_contract.errors import ServiceError
from edgegrain.service.batch import cluster
from edgegrain.service.batch.cluster import ray_cluster, session_folder


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_MODE", "RAY_USAGE_STATS_ENABLED"):
        monkeypatch.delenv(name, raising=False)
    before = dict(os.environ)
    monkeypatch.setitem(sys.modules, "ray", None)
    try:
        with pytest.raises(ServiceError, match=r"pip install 'edgegrain\[ray\]'"), ray_cluster(None):
            pass
        assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
        assert (os.environ["RAY_AUTH_MODE"], len(os.environ["RAY_AUTH_TOKEN"])) == ("token", 64)
    finally:
        os.environ.clear()
        os.environ.update(before)


def test_folders_of_killed_processes_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "PREFIX", f"edgegrain-test-{os.getpid()}-")
    with session_folder() as mine:
        (mine / "logs").mkdir()
        left = mine.parent / f"{cluster.PREFIX}left"
        left.mkdir()
        with session_folder() as other:
            assert mine.is_dir() and other.is_dir() and not left.exists()
    assert not mine.exists() and not other.exists()


@pytest.mark.parametrize("moment", ["locked", "removed", "removed after opening"])
def test_a_folder_that_another_start_removes_is_replaced(
    moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl", reason="needs locks of files")
    made: list[Path] = []
    held: list[int] = []
    create, flock = tempfile.mkdtemp, fcntl.flock

    def mkdtemp(prefix: str, dir: Path) -> str:
        folder = Path(create(prefix=prefix, dir=dir))
        made.append(folder)
        if len(made) == 1 and moment == "locked":
            held.append(os.open(folder, os.O_RDONLY))
            flock(held[0], fcntl.LOCK_EX)
        elif len(made) == 1 and moment == "removed":
            folder.rmdir()
        return str(folder)

    def lock(handle: int, operation: int) -> None:
        if len(made) == 1 and moment == "removed after opening":
            made[0].rmdir()
        flock(handle, operation)

    monkeypatch.setattr(cluster, "PREFIX", f"edgegrain-test-{os.getpid()}-")
    monkeypatch.setattr(tempfile, "mkdtemp", mkdtemp)
    monkeypatch.setattr(fcntl, "flock", lock)
    with session_folder() as folder:
        assert folder == made[1] and folder.is_dir()
        handle = os.open(folder, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(handle)
    for handle in held:
        os.close(handle)
        made[0].rmdir()


def test_a_system_without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl", reason="needs locks of files")

    def refuse(handle: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(cluster, "PREFIX", f"edgegrain-test-{os.getpid()}-")
    monkeypatch.setattr(fcntl, "flock", refuse)
    with session_folder() as mine, session_folder() as other:
        assert mine.is_dir() and other.is_dir()
    assert not mine.exists() and not other.exists()
