"""Available memory within the limits of control groups, in a made-up file system."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from codec_contract.host_memory import available_memory, resident

MIB = 1 << 20
PAGE = os.sysconf("SC_PAGE_SIZE")


def write(root: Path, files: dict[str, object]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(str(content))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A system with 4000 MiB available and a worker, process 7, of 400 MiB."""
    write(tmp_path, {"proc/meminfo": f"MemTotal: 9 kB\nMemAvailable:   {4000 << 10} kB\n",
                     "proc/7/statm": f"9999 {400 * MIB // PAGE} 1 1 0 1 0\n"})
    return tmp_path


def test_without_a_limit(root: Path) -> None:
    assert available_memory(root) == 4000 * MIB and resident(7, root) == 400 * MIB
    write(root, {"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": "max\n",
                 "sys/fs/cgroup/a/memory.current": 5, "sys/fs/cgroup/a/memory.stat": "file 1\n"})
    assert available_memory(root) == 4000 * MIB


@pytest.mark.parametrize("limited", ["a/b", "a", ""])
def test_version_2_with_a_limit_in_the_group_or_above(root: Path, limited: str) -> None:
    group = f"sys/fs/cgroup/{limited}".rstrip("/")
    write(root, {"proc/self/cgroup": "0::/a/b\n", f"{group}/memory.max": 1000 * MIB,
                 f"{group}/memory.current": 700 * MIB, f"{group}/memory.stat": f"file 1\ninactive_file {100 * MIB}\n"})
    assert available_memory(root) == 400 * MIB


def test_version_1(root: Path) -> None:
    group = "sys/fs/cgroup/memory"  # a container sees its own group as the root, under a path of the host
    write(root, {"proc/self/cgroup": "3:cpu,cpuacct:/x\n2:memory:/docker/123\n", f"{group}/memory.limit_in_bytes":
                 1000 * MIB, f"{group}/memory.usage_in_bytes": 900 * MIB,
                 f"{group}/memory.stat": f"total_inactive_file {50 * MIB}\n"})
    assert available_memory(root) == 150 * MIB


def test_without_proc_nothing_is_known(root: Path) -> None:
    (root / "proc/meminfo").unlink()
    assert available_memory(root) is None and resident(8, root) is None
