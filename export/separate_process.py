"""Work in a process of its own, whose memory goes back to the system when it ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from codec_contract.errors import ExportError
from codec_contract.host_memory import available_memory


def run_module(module: str, *arguments: str | Path) -> None:
    """Run a module as ``python -m`` does, with this process's import path.

    Args:
        module: its dotted name.
        arguments: of its command line.

    Raises:
        ExportError: it failed, or the system killed it, as it does when memory is short.
    """
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    done = subprocess.run([sys.executable, "-P", "-m", module, *map(str, arguments)],
                          env={**os.environ, "PYTHONPATH": path},
                          stderr=subprocess.PIPE, text=True, errors="replace", check=False)
    if done.returncode < 0:
        raise ExportError(f"the process of {module} was killed by signal {-done.returncode}, most likely because "
                          f"memory was short ({_available()} are available now); {_ADVICE}")
    if done.returncode:
        raise ExportError(f"the process of {module} failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")


def require_memory(needed: int, purpose: str) -> None:
    """Refuse work that needs more memory than this computer has left.

    Args:
        needed: bytes.
        purpose: of the work, a gerund: ``"comparing the decoder with torch"``.

    Raises:
        ExportError: less is available. Where that is not known nothing is refused.
    """
    available = available_memory()
    if available is not None and available < needed:
        raise ExportError(f"{purpose} needs about {needed / 1e9:.1f} GB of memory, {_available()} are available; "
                          f"{_ADVICE}")


_ADVICE = "close other programs or use a larger machine"


def _available() -> str:
    available = available_memory()
    return "an unknown number of bytes" if available is None else f"{available / 1e9:.1f} GB"
