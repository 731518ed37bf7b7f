"""The folder of a run that was given none."""

from __future__ import annotations

from pathlib import Path

RUNS = Path("runs")
LOG = "log.jsonl"


def run_folder(config: str, out: Path | None = None, *, resume: bool = False) -> Path:
    """``out``, or ``runs/CONFIG``, ``runs/CONFIG-2`` and so on: the first that holds no run; to resume, the last that
    does.
    """
    if out is not None:
        return out
    taken = 0
    while (_numbered(config, taken + 1) / LOG).is_file():
        taken += 1
    return _numbered(config, max(taken, 1) if resume else taken + 1)


def _numbered(config: str, number: int) -> Path:
    return RUNS / (config if number == 1 else f"{config}-{number}")
