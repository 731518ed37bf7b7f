"""The folder of a training run: default names, file names, and a test if the run is finished."""

from __future__ import annotations

import json
from pathlib import Path

RUNS = Path("runs")
CHECKPOINT = "last.safetensors"
LOG = "log.jsonl"
SAMPLES = "samples.png"


def run_folder(recipe: str, folder: Path | None = None, *, resume: bool = False) -> Path:
    """The folder given, or ``runs/RECIPE``, ``runs/RECIPE-2`` and so on: the first without a run; to resume, the last
    with one.
    """
    if folder is not None:
        return folder
    taken = 0
    while _is_run(_numbered(recipe, taken + 1)):
        taken += 1
    return _numbered(recipe, max(taken, 1) if resume else taken + 1)


def finished(run: Path) -> bool:
    """True if a run ended by itself, neither interrupted nor crashed: the last line of its log says so."""
    log = run / LOG
    if not (run / CHECKPOINT).is_file() or not log.is_file():
        return False
    lines = log.read_text().splitlines()
    try:
        return bool(lines) and bool(json.loads(lines[-1]).get("end"))
    except ValueError:  # cut off, by a full disk for instance
        return False


def ended(run: Path, pictures: int) -> bool:
    """True if the run ended by itself after this many pictures, whatever a later session has logged since."""
    log = run / LOG
    rows = log.read_text().splitlines() if log.is_file() else []
    return any(_ends(row, pictures) for row in rows if '"end"' in row)


def _ends(line: str, pictures: int) -> bool:
    try:
        row = json.loads(line)
    except ValueError:  # cut off
        return False
    return bool(row.get("end")) and row.get("pictures") == pictures


def _is_run(folder: Path) -> bool:
    """True for a run, and for a folder of several stages."""
    return (folder / LOG).is_file() or any(folder.glob(f"*/{LOG}"))


def _numbered(recipe: str, number: int) -> Path:
    return RUNS / (recipe if number == 1 else f"{recipe}-{number}")
