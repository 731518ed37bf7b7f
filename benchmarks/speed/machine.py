"""The checkout and its portrait; date, processor and commit, for reports."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
"""Root folder of the checkout."""
PORTRAIT = ROOT / "edgegrain" / "demo" / "portrait.jpg"


def measured_on() -> dict[str, Any]:
    """Date, processor, number of its cores, and commit."""
    return {"date": datetime.datetime.now(datetime.UTC).date().isoformat(), "machine": processor(),
            "cores": os.cpu_count(), "commit": commit()}


def processor() -> str:
    """The processor's name if Linux reports it, otherwise its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def commit() -> str:
    """The checked-out commit, with ``-dirty`` if files differ from it."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:  # git is not installed
        return "unknown"
    return result.stdout.strip() or "unknown"
