"""The folder of a training run: default names, file names, its lock, and a test if the run is finished."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edgegrain.pictures.writing import InUseError, only_writer

if TYPE_CHECKING:
    from edgegrain.training.distributed import Distributed

RUNS = Path("runs")
CHECKPOINT = "last.safetensors"
LOG = "log.jsonl"
SAMPLES = "samples.png"


@contextlib.contextmanager
def locked_run_folder(distributed: Distributed, folder: Path, *, claimed: bool = False) -> Iterator[None]:
    """Lock a run's folder for the block, for all processes of the run, unless the caller has ``claimed`` it.

    Raises:
        InUseError: another process trains in it.
    """
    with contextlib.ExitStack() as lock:
        if not claimed:
            distributed.from_first(lambda: lock.enter_context(only_writer(folder)))
        yield


@contextlib.contextmanager
def claim_run_folder(distributed: Distributed, recipe: str, folder: Path | None = None, *, resume: bool = False
                     ) -> Iterator[Path]:
    """The folder given, or ``runs/RECIPE``, ``runs/RECIPE-2`` and so on: the first without a run that is not in use; to
    resume, the last with one.

    The first process chooses it and locks it for the block, for all processes of the run.

    Raises:
        InUseError: another process trains in the folder that is given or to resume.
    """
    if resume and folder is None:
        folder = _last_run(recipe)
    with contextlib.ExitStack() as lock:
        yield distributed.from_first(lambda: _claim(lock, recipe, folder))


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


def ended_after(run: Path, pictures: int) -> bool:
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


def _claim(lock: contextlib.ExitStack, recipe: str, folder: Path | None) -> Path:
    if folder is not None:
        lock.enter_context(only_writer(folder))
        return folder
    number = 1
    while True:
        folder = _numbered(recipe, number)
        if not _is_run(folder):
            with contextlib.suppress(InUseError):
                lock.enter_context(only_writer(folder))
                return folder
        number += 1


def _last_run(recipe: str) -> Path:
    """The last run's folder, that of the first one if there is none."""
    number = 1
    while _is_run(_numbered(recipe, number + 1)):
        number += 1
    return _numbered(recipe, number)


def _is_run(folder: Path) -> bool:
    """True for a run, and for a folder of several stages."""
    return (folder / LOG).is_file() or any(folder.glob(f"*/{LOG}"))


def _numbered(recipe: str, number: int) -> Path:
    return RUNS / (recipe if number == 1 else f"{recipe}-{number}")
