"""Ray, opened so that it stays at home: loopback only unless an address is given, and it tells nobody that it runs."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from codec_contract.errors import ServiceError

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # else Ray reports its use to its makers
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else it announces a change of its own on stderr
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # else it warns of how Ray Data makes its actors
    "RAY_DEDUP_LOGS": "0",  # else it leaves out lines that resemble others
    "RAY_COLOR_PREFIX": "0",
}
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Despite its name this is what makes Ray take the loopback address, on Linux too."""
ATTEMPTS = 3
"""Ray's parts give each other 15 s to start, which on a busy machine is too short for the first time."""
PREFIX = "edgegrain-ray-"
OBJECT_STORE_BYTES = 256 << 20
"""Shared memory of a cluster that is started here. Names and counts lie in it, never pictures."""


@contextmanager
def ray_cluster(address: str | None, *, cpus: float | None = None, show_logs: bool = False) -> Iterator[None]:
    """Ray, started on this machine or connected to, until the block ends.

    Args:
        address: of a running cluster; None starts one that nobody else can reach and that ends with the block.
        cpus: cores that one started here offers; None for those there are.
        show_logs: copy what Ray's processes print to stderr.

    Raises:
        ServiceError: Ray is not installed, does not start, or there is none at the address.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if address is None:
        # Else Ray would make a token and keep it in the home folder.
        for name, value in {**LOOPBACK, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}.items():
            os.environ.setdefault(name, value)
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ray_missing(error) from error
    common: dict[str, Any] = {"log_to_driver": show_logs, "logging_level": "ERROR"}
    with session_folder() as folder:
        try:
            if address is None:
                _start(num_cpus=cpus, include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES,
                       _temp_dir=str(folder), **common)
            else:
                ray.init(address=address, **common)
        except Exception as error:  # Ray raises plain ones, too
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
    """A folder for Ray's sockets and logs, until the block ends; those of killed processes are removed as well."""
    # Paths of sockets have at most some hundred characters: not below a TMPDIR of any length.
    parent = Path("/tmp" if os.path.isdir("/tmp") else tempfile.gettempdir())
    for left in parent.glob(f"{PREFIX}*"):
        handle = _lock(left)
        if handle is not None:
            shutil.rmtree(left, ignore_errors=True)
            os.close(handle)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    handle = _lock(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if handle is not None:
            os.close(handle)


def _lock(folder: Path) -> int | None:
    """A descriptor that locks a folder while this process lives; None if another process does, or nobody can."""
    try:
        import fcntl

        handle = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return handle
    except OSError:
        os.close(handle)
        return None


def ray_missing(error: ModuleNotFoundError) -> ServiceError:
    """What to install where Ray, or what its parts need, is missing."""
    return ServiceError(f"this needs Ray, and {error.name} is not installed; install: pip install 'edgegrain[ray]'")
