"""Start Ray on this machine, bound to loopback, or connect to a cluster; with usage reporting off."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, chdir, contextmanager
from typing import Any

from codec_contract.errors import ServiceError, needs_extra
from codec_contract.onnx_runtime import without_lines

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # no usage statistics
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # no announcement on stderr
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_DEDUP_LOGS": "0",  # no dropped log lines
    "RAY_COLOR_PREFIX": "0",
}
PRIVATE = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # despite its name, makes Ray use the loopback address on Linux too
    "RAY_AUTH_MODE": "token",  # with a token of the environment: otherwise Ray would store one in the home folder
}
ATTEMPTS = 3
"""Attempts to start: Ray's processes wait 15 s for each other, which can be too short on a busy machine."""
OBJECT_STORE_BYTES = 256 << 20
"""Shared memory of a cluster that is started here; it holds names and counts, never pictures."""


@contextmanager
def ray_cluster(address: str | None, *, cpus: float | None = None, show_logs: bool = False) -> Iterator[None]:
    """Start Ray, or connect to a cluster, until the block ends.

    Args:
        address: address of a running cluster; None starts a private one that ends with the block.
        cpus: cores of a cluster started here; None for all.
        show_logs: copy the output of Ray's processes to stderr.
    """
    private = {} if address else PRIVATE | {"RAY_AUTH_TOKEN": secrets.token_hex(32)}
    for name, value in (QUIET | private).items():
        os.environ.setdefault(name, value)
    with needs_extra("ray", "working on Ray needs", ServiceError):
        import ray
    options: dict[str, Any] = {"address": address, "log_to_driver": show_logs, "logging_level": "ERROR"}
    with ExitStack() as stack:
        # Paths of sockets are limited to some hundred characters, so not in TMPDIR, which may be long.
        folder = stack.enter_context(tempfile.TemporaryDirectory(
            prefix="edgegrain-ray-", dir="/tmp" if os.path.isdir("/tmp") else None, ignore_cleanup_errors=True))
        if address is None:
            options |= {"address": "local", "num_cpus": cpus, "include_dashboard": False, "_temp_dir": folder,
                        "object_store_memory": OBJECT_STORE_BYTES}
        stack.callback(ray.shutdown)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                # Workers import from the current directory of this moment: an empty one.
                with without_lines("Set ray log level from environment"), chdir(folder):
                    ray.init(**options)
                break
            except Exception as error:  # Ray also raises plain exceptions
                ray.shutdown()
                if address is None and attempt < ATTEMPTS:
                    continue
                where = "did not start on this machine" if address is None else f"cannot be reached at {address!r}"
                raise ServiceError(f"Ray {where}: {' '.join(str(error).split())}") from error
        yield


def cluster_cores() -> int:
    """Number of cores of the Ray cluster, at least 1."""
    import ray

    return max(1, int(ray.cluster_resources().get("CPU", 1)))
