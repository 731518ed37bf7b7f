"""The decision about spare workers, in a made-up file system."""

from __future__ import annotations

import os
from pathlib import Path

from edgegrain.service.spare_workers import spares_that_fit

MIB = 1 << 20


def test_a_spare_needs_memory_for_itself_and_full_batches(tmp_path: Path) -> None:
    (tmp_path / "proc/7").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text(f"MemAvailable:   {4000 << 10} kB\n")
    (tmp_path / "proc/7/statm").write_text(f"9999 {400 * MIB // os.sysconf('SC_PAGE_SIZE')} 1 1 0 1 0\n")
    assert spares_that_fit([7], 8, tmp_path) == (1, "4000 MiB are available, 2000 MiB needed")
    assert spares_that_fit([7, 7, 7], 8, tmp_path) == (0, "4000 MiB are available, 5200 MiB needed")
    assert spares_that_fit([8], 8, tmp_path).spares == 0  # no such process
    (tmp_path / "proc/meminfo").unlink()
    assert "not known" in spares_that_fit([7], 8, tmp_path).reason
