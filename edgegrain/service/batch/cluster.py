"""Start Ray bound to loopback, or connect to a running cluster; with usage reporting off."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from codec_contract.errors import ServiceError, needs_extra
from codec_contract.onnx_runtime import without_lines

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # no usage statistics
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # no announcement on stderr
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # no warnings about Ray Data's actors
    "RAY_DEDUP_LOGS": "0",  # no dropped log lines
    "RAY_COLOR_PREFIX": "0",
}
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Despite its name, this variable makes Ray use the loopback address on Linux too."""
ATTEMPTS = 3
"""Attempts to start: Ray's processes wait 15 s for each other, which can be too short on a busy machine."""
PREFIX = "edgegrain-ray-"
OBJECT_STORE_BYTES = 256 << 20
"""Shared memory of a cluster that is started here; it holds names and counts, never pictures."""


@contextmanager
def ray_cluster(address: str | None, *, cpus: float | None = None, show_logs: bool = False) -> Iterator[None]:
    """Start Ray on this machine, or connect to a cluster, until the block ends.

    Args:
        address: address of a running cluster; None starts a private one that ends with the block.
        cpus: cores of a cluster started here; None for all.
        show_logs: copy the output of Ray's processes to stderr.

    Raises:
        ServiceError: Ray is not installed, does not start, or does not run at the address.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if address is None:
        # Otherwise Ray would store a token in the home folder.
        for name, value in {**LOOPBACK, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}.items():
            os.environ.setdefault(name, value)
    with needs_extra("ray", "working on Ray needs", ServiceError):
        import ray
    common: dict[str, Any] = {"log_to_driver": show_logs, "logging_level": "ERROR"}
    with session_folder() as folder:
        try:
            with without_lines("Set ray log level from environment"):
                if address is None:
                    _start(num_cpus=cpus, include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES,
                           _temp_dir=str(folder), **common)
                else:
                    ray.init(address=address, **common)
        except Exception as error:  # Ray also raises plain exceptions
            where = "did not start on this machine" if address is None else f"cannot be reached at {address!r}"
            raise ServiceError(f"Ray {where}: {' '.join(str(error).split())}") from error
        try:
            yield
        finally:
            ray.shutdown()


def _start(**options: Any) -> None:
    import ray

    for attempt in range(1, ATTEMPTS + 1):
        try:
            ray.init(address="local", **options)
            return
        except Exception:
            ray.shutdown()
            if attempt == ATTEMPTS:
                raise


@contextmanager
def session_folder() -> Iterator[Path]:
    """A folder for Ray's sockets and logs, until the block ends; folders of killed processes are removed too."""
    # Paths of sockets are limited to some hundred characters, so not in TMPDIR, which may be long.
    parent = Path("/tmp" if os.path.isdir("/tmp") else tempfile.gettempdir())
    for left in parent.glob(f"{PREFIX}*"):
        with suppress(OSError):
            handle = _lock(left)
            if handle is not None:
                shutil.rmtree(left, ignore_errors=True)
                os.close(handle)
    folder, handle = _locked_folder(parent)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if handle is not None:
            os.close(handle)


def _locked_folder(parent: Path) -> tuple[Path, int | None]:
    """A new folder and the descriptor that locks it."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        # Until the folder is locked, another process that starts may consider it abandoned and remove it: try again.
        with suppress(BlockingIOError, FileNotFoundError):
            return folder, _lock(folder)


def _lock(folder: Path) -> int | None:
    """A descriptor that locks a folder for this process; None on systems without locks.

    Raises:
        BlockingIOError: another process holds the lock.
        FileNotFoundError: the folder was removed.
        OSError: the folder cannot be opened.
    """
    try:
        import fcntl
    except ImportError:
        return None
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(handle), os.stat(folder)):
            raise FileNotFoundError(f"{folder} was replaced")
        return handle
    except (BlockingIOError, FileNotFoundError):
        os.close(handle)
        raise
    except OSError:  # the file system has no locks
        os.close(handle)
        return None
