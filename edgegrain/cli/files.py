"""`plan_jobs`: the files that a command reads, and the files or standard output that it writes."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar, get_args

import typer

from codec_contract.bundle.manifest import MANIFEST
from codec_contract.errors import ExistsError
from codec_contract.files import write_atomically
from codec_contract.payload import PAYLOAD_SUFFIX
from edge_encoder.preprocessing import PICTURE_SUFFIXES
from edgegrain.cli.options import PictureFormat

Item = TypeVar("Item")
STDIN = STDOUT = Path("-")
"""The source that stands for standard input, and the target that stands for standard output."""
MAX_STDIN_BYTES = 1 << 30
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
    """Files or jobs, the errors of folders that cannot be listed, and the number of files that are left out."""

    items: list[Item] = field(default_factory=list)
    unlisted: list[OSError] = field(default_factory=list)
    left_out: int = 0


def existing_source(text: str) -> Path:
    """The parser of arguments that name existing files and folders, or `STDIN`.

    typer's ``exists=True, allow_dash=True`` refuses ``-`` of the type `Path`.
    """
    if text == "-":
        return STDIN
    path = Path(text)
    if not path.exists():
        raise typer.BadParameter(f"path '{path}' does not exist.")
    return path.absolute() if path == STDIN else path  # ./- is a file, but Path("./-") == Path("-")


def existing_file(text: str) -> Path:
    """The parser of arguments that name an existing file, or `STDIN`."""
    path = existing_source(text)
    if _is_folder(path):
        raise typer.BadParameter(f"'{path}' is a folder; name a file.")
    return path


def plan_jobs(
    sources: Sequence[Path], out: str | None, *, wanted: frozenset[str], result_suffix: str
) -> Plan[FileJob]:
    """One job per file; a folder stands for the files in it, at any depth, whose lower-case suffix is wanted.

    Results are written next to their sources, or into the folder ``out``, where the files of a folder keep its
    structure. For a single file ``out`` is the file to write if it has a suffix, does not end with a separator and is
    not an existing folder, or ``-`` for `STDOUT`, where the result of `STDIN` goes by default. The result of ``a.jpg``
    is called ``a`` and the result's suffix; if that of ``a.png`` would be called the same, both keep their own suffix
    in front of it. Names that differ in case only count as the same. Plans that would lose or replace a file are
    refused (`typer.BadParameter`).
    """
    piped = STDIN in sources
    if piped and len(sources) > 1:
        raise typer.BadParameter("standard input (-) is read alone, without other files")
    if out == "-" or (piped and out is None):
        return Plan([FileJob(_only_file(sources), STDOUT)])
    # `Path` would drop a final separator.
    named = out is not None and bool(os.path.basename(out)) and bool(Path(out).suffix) and not Path(out).is_dir()
    if piped and not named:
        raise typer.BadParameter(f"{out} is a folder, or has no suffix; name the file for standard input's result",
                                 param_hint="--out")
    if out is not None and named and len(sources) == 1 and not _is_folder(sources[0]):
        refuse_sources([Path(out)], sources)
        return Plan([FileJob(sources[0], Path(out))])
    folder = None if out is None else Path(out)
    if folder is not None and folder.exists() and not folder.is_dir():
        raise typer.BadParameter(f"{folder} is a file; name a folder, or for a single result a file with a suffix, "
                                 f"such as {folder.name}{result_suffix}", param_hint="--out")
    found = _find(sources, wanted)
    places = dict.fromkeys((path, path if folder is None else folder / below) for path, below in found.items)
    alike = Counter(_folded(place.with_suffix("")) for _, place in places)
    jobs: dict[Path, FileJob] = {}
    for path, place in places:
        name = place.stem if alike[_folded(place.with_suffix(""))] == 1 else place.name
        job = FileJob(path, place.with_name(name + result_suffix))
        other = jobs.setdefault(job.target, job)
        if other.source != path:
            raise typer.BadParameter(
                f"{other.source} and {path} would both become {job.target}; process them one by one, with --out")
    refuse_sources(jobs, (job.source for job in jobs.values()))
    return Plan(list(jobs.values()), found.unlisted, found.left_out)


def list_files(sources: Sequence[Path], wanted: frozenset[str]) -> Plan[Path]:
    """The files themselves, and in place of every folder the wanted files in it, at any depth."""
    found = _find(sources, wanted)
    return Plan([path for path, _ in found.items], found.unlisted, found.left_out)


def refuse_sources(written: Iterable[Path], sources: Iterable[Path]) -> None:
    """Raise `typer.BadParameter` if one of the files to write is a file that the command reads."""
    read = {_folded(os.path.realpath(source)) for source in sources}  # `Path.resolve` raises for links in a circle
    for path in written:
        if _folded(os.path.realpath(path)) in read:
            raise typer.BadParameter(f"{path} is one of the files to read, and a result would replace it; leave it "
                                     "out, or choose another --out")


def refuse_existing(files: Iterable[Path], force: bool) -> None:
    """Raise `ExistsError` if one of the files to write exists and ``force`` is false; call it before the work."""
    for path in files:
        if path != STDOUT and path.exists() and not force:
            raise ExistsError(path, "choose another --out, or pass --force to replace it")


def read_source(path: Path) -> Path | bytes:
    """The path itself, or all bytes of `STDIN` and of a pipe, which can be read only once."""
    if path != STDIN and path.is_file():
        return path
    if path == STDIN and (sys.stdin is None or sys.stdin.isatty()):
        state = "closed" if sys.stdin is None else "a terminal"
        raise typer.BadParameter(f"standard input is {state}; pipe a file into the command, or name one")
    with nullcontext(sys.stdin.buffer) if path == STDIN else path.open("rb") as stream:
        data = stream.read(MAX_STDIN_BYTES + 1)
    if len(data) > MAX_STDIN_BYTES:
        name = "standard input" if path == STDIN else path
        raise typer.BadParameter(f"{name} has more than {MAX_STDIN_BYTES:,} bytes, so it is no picture or payload that "
                                 "can be read")
    return data


def write_result(path: Path, data: bytes, *, force: bool) -> None:
    """Write ``data`` to a file, atomically, or to `STDOUT`; `ExistsError` if the file exists."""
    if path != STDOUT:
        write_atomically(path, data, force=force)
        return
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except OSError as error:
        error.filename = "standard output"
        raise


def _folded(path: Path | str) -> str:
    """As file systems that ignore case compare it."""
    return str(path).casefold()


def _is_folder(source: Path) -> bool:
    return source != STDIN and source.is_dir()


def _only_file(sources: Sequence[Path]) -> Path:
    """The one file whose result goes to `STDOUT`."""
    if len(sources) != 1 or _is_folder(sources[0]):
        why = "takes the result of one file; name a folder for several"
    elif sys.stdout is None:
        why = "is closed; name a file"
    elif sys.stdout.isatty():
        why = "is a terminal, the result is binary; pipe it, or name a file"
    else:
        return sources[0]
    raise typer.BadParameter(f"standard output {why}", param_hint="--out")


def _find(sources: Sequence[Path], wanted: frozenset[str]) -> Plan[tuple[Path, Path]]:
    """(file, its path below the source) of every file that the sources stand for, sorted.

    Of a folder, names that begin with a dot are left out, such as macOS's ``._me.jpg``, and the commands' own results
    (`PICTURE_RESULTS`), so that a command on a folder can be repeated.
    """
    plan: Plan[tuple[Path, Path]] = Plan()
    known = PICTURE_SUFFIXES | {PAYLOAD_SUFFIX}
    for source in sources:
        if not _is_folder(source):
            plan.items.append((source, Path(source.name)))
            continue
        unlisted: list[OSError] = []
        files = []
        for folder, folders, names in os.walk(source, onerror=unlisted.append):
            folders[:] = (name for name in folders if not name.startswith("."))  # os.walk skips the others
            files += [Path(folder) / name for name in names if not name.startswith(".")]
        files.sort()
        plan.left_out += sum(path.suffix.lower() not in known for path in files)
        # A link that leads nowhere fails later, as a file; pipes and sockets are left out.
        alike = [path for path in files if path.suffix.lower() in wanted and (path.is_file() or not path.exists())]
        found = [path for path in alike if not path.name.lower().endswith(PICTURE_RESULTS)]
        if not found and not unlisted:
            hint = "; it is a bundle: see 'edgegrain bundles show'" if (source / MANIFEST).is_file() else ""
            if alike:
                hint = f" but results of edgegrain, such as {alike[0].name}, which are taken only if they are named"
            raise typer.BadParameter(
                f"the folder {source} holds no file with the suffix {', '.join(sorted(wanted))}{hint}")
        plan.items += [(path, path.relative_to(source)) for path in found]
        plan.unlisted += unlisted
    return plan
