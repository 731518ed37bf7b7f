"""The name of this machine's processor, for reports."""

from __future__ import annotations

import platform
from pathlib import Path


def processor_name() -> str:
    """The model's name on Linux, elsewhere the one that Python reports, else the architecture."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:  # not Linux
        pass
    return platform.processor() or platform.machine() or "unknown processor"
