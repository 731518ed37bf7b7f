"""Ray, opened so that it stays at home: loopback only unless an address is given, and it tells nobody that it runs."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from edgegrain.contract.errors import ServiceError

QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
"""Ray would report its use to its makers, and announces a future change of its own."""

HERE_ONLY = {
    # Despite its name this is what makes Ray take the loopback address, on Linux too.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    # A busy machine takes its time; Ray's own patience is 30 s.
    "RAY_raylet_start_wait_time_s": "120",
}
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
        # The token would else be made by Ray and kept in the home folder.
        for name, value in {**HERE_ONLY, "RAY_AUTH_TOKEN": secrets.token_hex(32)}.items():
            os.environ.setdefault(name, value)
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ray_missing(error) from error
    # Paths of sockets have at most some hundred characters: not below a TMPDIR of any length.
    folder = tempfile.mkdtemp(prefix="edgegrain-ray-", dir="/tmp" if os.path.isdir("/tmp") else None)
    try:
        if address is None:
            ray.init(address="local", num_cpus=cpus, include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES,
                     log_to_driver=show_logs, logging_level="ERROR", _temp_dir=folder)
        else:
            ray.init(address=address, log_to_driver=show_logs, logging_level="ERROR")
    except Exception as error:  # Ray raises plain ones, too
        ray.shutdown()
        where = "did not start on this machine" if address is None else f"cannot be reached at {address!r}"
        raise ServiceError(f"Ray {where}: {' '.join(str(error).split())} (its logs are in {folder})") from error
    try:
        yield
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def ray_missing(error: ModuleNotFoundError) -> ServiceError:
    """What to install where Ray, or what its parts need, is missing."""
    return ServiceError(f"this needs Ray, and {error.name} is not installed; install: pip install 'edgegrain[ray]'")
