"""Processes as Linux shows them in /proc: descendants and processor time."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def parent(pid: int) -> int:
    """Process id of the parent; `OSError` if the process is gone."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def descendants(root: int) -> list[int]:
    """Process ids of all children, and theirs."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            children.setdefault(parent(int(path.name)), []).append(int(path.name))
    found, waiting = [], [root]
    while waiting:
        waiting += (inner := children.get(waiting.pop(), []))
        found += inner
    return found


def command_line(pid: int) -> str:
    """The command line of a process; empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def cpu_ticks(pid: int) -> int:
    """Processor time that a process has used, in clock ticks; 0 if it is gone."""
    try:
        user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    except OSError:
        return 0
    return int(user) + int(system)
