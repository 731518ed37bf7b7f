"""Processes as Linux shows them in /proc: descendants and processor time."""

from contextlib import suppress
from pathlib import Path


def descendants(root: int) -> list[int]:
    """Process ids of all children, and theirs."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it is gone
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(path.parent.name))
    found, waiting = [], [root]
    while waiting:
        waiting += (inner := children.get(waiting.pop(), []))
        found += inner
    return found


def command_line(pid: int) -> str:
    """The command line of a process; empty if it is gone."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def cpu_ticks(pid: int) -> int:
    """Processor time that a process has used, in clock ticks; 0 if it is gone."""
    with suppress(OSError):
        return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
    return 0
