"""`plan_jobs`: the files that a command reads, and the files or standard output that it writes."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Generic, TypeVar, get_args

import typer

from codec_contract.errors import ExistsError
from codec_contract.files import write_atomically
from edgegrain.cli.options import PictureFormat, refuse_options

Item = TypeVar("Item")
STDIN = STDOUT = Path("-")
"""The source that stands for standard input, and the target that stands for standard output."""
LR_SUFFIX, RETOUCHED_SUFFIX = ".lr.png", ".retouched.png"
PICTURE_RESULTS = LR_SUFFIX, RETOUCHED_SUFFIX, *(f".restored.{name}" for name in get_args(PictureFormat))
"""Suffixes that `compress --lr`, `restore` and `retouch` give to pictures; such files of a folder are not taken."""


@dataclass(frozen=True)
class FileJob:
    """A file to read, or `STDIN`, and the file to write, or `STDOUT`."""

    source: Path
    target: Path


@dataclass
class Plan(Generic[Item]):
    """Files or jobs, the errors of folders that cannot be listed, and whether the result goes to `STDOUT`."""

    items: list[Item] = field(default_factory=list)
    unlisted: list[OSError] = field(default_factory=list)
    piped: bool = False


def existing_source(text: str) -> Path:
    """The parser of arguments that name existing files and folders, or `STDIN`, which typer's own refuses."""
    path = Path(text)
    if path != STDIN and not path.exists():
        raise typer.BadParameter(f"path '{path}' does not exist.")
    return path


SourcesArgument = Annotated[list[Path], typer.Argument(parser=existing_source)]


def plan_jobs(sources: Sequence[Path], out: str | None, *, wanted: frozenset[str], result_suffix: str) -> Plan[FileJob]:
    """One job per file; a folder stands for the wanted files in it, and keeps its structure in the folder ``out``.

    For a single file ``out`` is the file to write if it has a suffix, does not end with a separator and is not an
    existing folder. ``a.jpg`` and ``a.png`` keep their own suffix in front of the result's. Plans that would lose or
    replace a file are refused.
    """
    piped, single = STDIN in sources, len(sources) == 1 and not sources[0].is_dir()
    if piped and len(sources) > 1:
        raise typer.BadParameter("standard input (-) is read alone, without other files")
    if out == "-" or (piped and out is None):
        one_file = "standard output takes the result of one file; name a folder for several"
        refuse_options({"--out": not single}, one_file)
        terminal = "standard output is a terminal, the result is binary; pipe it, or name a file"
        refuse_options({"--out": sys.stdout.isatty()}, terminal)
        return Plan([FileJob(sources[0], STDOUT)], piped=True)
    # `Path` would drop a final separator.
    named = out is not None and bool(os.path.basename(out)) and bool(Path(out).suffix) and not Path(out).is_dir()
    no_file = f"{out} is a folder, or has no suffix; name the file for standard input's result"
    refuse_options({"--out": piped and not named}, no_file)
    folder = None if out is None else Path(out)
    if folder is not None and named and single:
        refuse_sources([folder], sources)
        return Plan([FileJob(sources[0], folder)])
    if folder is not None and folder.exists() and not folder.is_dir():
        advice = f"name a folder, or for a single result a file with a suffix, such as {folder.name}{result_suffix}"
        raise typer.BadParameter(f"{folder} is a file; {advice}", param_hint="--out")
    found = _find(sources, wanted)
    places = dict.fromkeys((path, path if folder is None else folder / below) for path, below in found.items)
    alike = Counter(place.with_suffix("") for _, place in places)
    jobs: dict[Path, FileJob] = {}
    for path, place in places:
        name = place.stem if alike[place.with_suffix("")] == 1 else place.name
        job = FileJob(path, place.with_name(name + result_suffix))
        other = jobs.setdefault(job.target, job)
        if other.source != path:
            raise typer.BadParameter(
                f"{other.source} and {path} would both become {job.target}; process them one by one, with --out"
            )
    refuse_sources(jobs, (job.source for job in jobs.values()))
    return Plan(list(jobs.values()), found.unlisted)


def list_files(sources: Sequence[Path], wanted: frozenset[str]) -> Plan[Path]:
    """The files themselves, and in place of every folder the wanted files in it, at any depth."""
    found = _find(sources, wanted)
    return Plan([path for path, _ in found.items], found.unlisted)


def refuse_sources(written: Iterable[Path], sources: Iterable[Path]) -> None:
    """Raise `typer.BadParameter` if one of the files to write is a file that the command reads."""
    read = {os.path.realpath(source) for source in sources}  # `Path.resolve` raises for links in a circle
    for path in written:
        if os.path.realpath(path) in read:
            why = "is one of the files to read, and a result would replace it; leave it out, or choose another --out"
            raise typer.BadParameter(f"{path} {why}")


def refuse_existing(files: Iterable[Path], force: bool) -> None:
    """Raise `ExistsError` if one of the files to write exists and ``force`` is false; call it before the work."""
    for path in files:
        if path != STDOUT and path.exists() and not force:
            raise ExistsError(path, "choose another --out, or pass --force to replace it")


def read_source(path: Path) -> Path | bytes:
    """The path itself, or all bytes of `STDIN` and of a pipe, which can be read only once."""
    if path == STDIN:
        return sys.stdin.buffer.read()
    return path if path.is_file() else path.read_bytes()


def write_result(path: Path, data: bytes, *, force: bool) -> None:
    """Write ``data`` to a file, atomically, or to `STDOUT`; `ExistsError` if the file exists."""
    if path == STDOUT:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    else:
        write_atomically(path, data, force=force)


def _find(sources: Sequence[Path], wanted: frozenset[str]) -> Plan[tuple[Path, Path]]:
    """(file, its path below the source) of every file that the sources stand for, sorted. Of a folder, names that begin
    with a dot are left out, such as macOS's ``._me.jpg``, and results, so that a command can be repeated."""
    plan: Plan[tuple[Path, Path]] = Plan()
    for source in sources:
        if not source.is_dir():
            plan.items.append((source, Path(source.name)))
            continue
        unlisted: list[OSError] = []
        files = []
        for folder, folders, names in os.walk(source, onerror=unlisted.append):
            folders[:] = (name for name in folders if not name.startswith("."))  # os.walk skips the others
            files += [Path(folder) / name for name in names if not name.startswith(".")]
        files.sort()
        named = [path for path in files if path.suffix.lower() in wanted]
        # A link that leads nowhere fails later, as a file; pipes and sockets are left out.
        taken = [path for path in named if not path.name.lower().endswith(PICTURE_RESULTS)]
        found = [path for path in taken if path.is_file() or not path.exists()]
        if not found and not unlisted:
            suffixes = ", ".join(sorted(wanted))
            raise typer.BadParameter(
                f"the folder {source} holds no file with the suffix {suffixes}, apart from results of edgegrain"
            )
        plan.items += [(path, path.relative_to(source)) for path in found]
        plan.unlisted += unlisted
    return plan
