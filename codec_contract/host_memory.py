"""Memory of this computer and of its processes. Linux only; elsewhere nothing is known."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path


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
