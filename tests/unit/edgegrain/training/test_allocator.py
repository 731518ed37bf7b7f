"""Memory that was freed is used again without the kernel."""

from __future__ import annotations

import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
from edgegrain.training.allocator import keep_freed_memory

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        b"\1" * (1 << 26)  # 16384 pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

kept = sys.argv[1] == "kept" and keep_freed_memory()
pages()
print(kept, pages())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_later_arrays_take_the_memory_of_earlier_ones() -> None:
    found = [subprocess.run([sys.executable, "-c", FAULTS, name], capture_output=True, text=True, check=True)
             .stdout.split() for name in ("kept", "usual")]
    assert [kept for kept, _ in found] == ["True", "False"]
    assert int(found[0][1]) < 16384 and int(found[1][1]) >= 10 * 16384
