"""Memory of worker processes, and the number of spares that fit into the memory that is left. Linux only."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

GROWTH = 0.5
"""Memory that each picture of a batch adds to a worker, as a part of its memory when it is ready; measured: 0.4."""


class SpareDecision(NamedTuple):
    """Number of spare workers and the reason, for the log."""

    spares: int
    reason: str


def spares_that_fit(pids: Sequence[int], largest_batch: int, root: Path = Path("/")) -> SpareDecision:
    """One spare worker if there is memory for it and for the largest batch of every worker, otherwise none.

    Args:
        pids: process ids of the workers, which have just become ready.
        largest_batch: pictures in the largest batch.
        root: folder of ``proc`` and ``sys``; tests replace it.
    """
    worker, available = max((resident(pid, root) or 0 for pid in pids), default=0), available_memory(root)
    if not worker or available is None:
        return SpareDecision(0, "the memory of workers or of the system is not known here")
    needed = round(worker * (len(pids) * GROWTH * largest_batch + 1))
    figures = f"{available >> 20} MiB are available, {needed >> 20} MiB needed"
    return SpareDecision(int(available >= needed), figures)


def resident(pid: int, root: Path = Path("/")) -> int | None:
    """Resident memory of a process in bytes; None if it is not known."""
    try:
        return int((root / f"proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


def available_memory(root: Path = Path("/")) -> int | None:
    """Bytes that processes of this control group can still allocate; None if it is not known."""
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB$", (root / "proc/meminfo").read_text(), re.MULTILINE)
    except OSError:
        return None
    return min([int(found[1]) << 10, *_left_in_groups(root)]) if found else None


def _left_in_groups(root: Path) -> Iterator[int]:
    """Bytes left below the limit of this process's control group and of each group above it (versions 1 and 2)."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            mount, limit, usage, cache = root / "sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            mount, cache = root / "sys/fs/cgroup/memory", "total_inactive_file"
            limit, usage = "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        group = mount / path.lstrip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(mount):
                try:
                    # Pages of files that were not used lately are freed when memory is short.
                    files = re.search(rf"^{cache} (\d+)$", (folder / "memory.stat").read_text(), re.MULTILINE)
                    used = int((folder / usage).read_text()) - (int(files[1]) if files else 0)
                    yield max(0, int((folder / limit).read_text()) - used)
                except (OSError, ValueError):  # no limit ("max"), or a group above the container's
                    continue
