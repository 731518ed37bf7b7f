"""`plan_jobs`: the files that a command reads, and the files or standard output that it writes."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn

import typer

from codec_contract.bundle.manifest import MANIFEST
from codec_contract.errors import ExistsError
from codec_contract.files import write_atomically
from edgegrain.cli.options import FormatChoice

STDIN = STDOUT = Path("-")
"""The source that stands for standard input, and the target that stands for standard output."""
MAX_STDIN_BYTES = 1 << 30
LR_SUFFIX, RETOUCHED_SUFFIX = ".lr.png", ".retouched.png"
RESTORED_SUFFIXES = {choice: f".restored.{choice.value}" for choice in FormatChoice}
PICTURE_RESULTS = LR_SUFFIX, RETOUCHED_SUFFIX, *RESTORED_SUFFIXES.values()
"""Suffixes that `compress --lr`, `restore` and `retouch` give to pictures; such files of a folder are not taken."""


@dataclass(frozen=True)
class FileJob:
    """A file to read, or `STDIN`, and the file to write, or `STDOUT`."""

    source: Path
    target: Path


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
    if path.is_dir() and path != STDIN:
        raise typer.BadParameter(f"'{path}' is a folder; name a file.")
    return path


def plan_jobs(
    sources: Sequence[Path], out: str | None, *, wanted: frozenset[str], result_suffix: str
) -> list[FileJob]:
    """One job per file; a folder stands for the wanted files in it, at any depth.

    Results are written next to their sources, or into the folder ``out``, where the files of a folder keep its
    structure. For a single file ``out`` is the file to write if it has a suffix, does not end with a separator and is
    not an existing folder, or ``-`` for `STDOUT`, where the result of `STDIN` goes by default. The result of ``a.jpg``
    is called ``a`` and the result's suffix; if that of ``a.png`` would be called the same, both keep their own suffix
    in front of it. Names that differ in case only count as the same. Plans that would lose or replace a file are
    refused (`typer.BadParameter`).

    Args:
        sources: existing files and folders, or `STDIN` alone.
        out: folder or file for the results, as the user wrote it: `Path` drops a final separator; None for next to
            the sources.
        wanted: lower-case suffixes of the files taken from a folder.
        result_suffix: replaces the source's suffix, or follows it.
    """
    if STDIN in sources:
        return [_pipe_job(sources, "-" if out is None else out)]
    if out == "-":
        return [FileJob(_only_file(sources), STDOUT)]
    if out is not None and _names_file(out) and len(sources) == 1 and not sources[0].is_dir():
        file = Path(out)
        if file.exists() and file.samefile(sources[0]):
            raise typer.BadParameter(f"{file} is the file to read; choose another name", param_hint="--out")
        return [FileJob(sources[0], file)]
    folder = None if out is None else Path(out)
    if folder is not None and folder.exists() and not folder.is_dir():
        raise typer.BadParameter(f"{folder} is a file; name a folder, or for a single result a file with a suffix, "
                                 f"such as {folder.name}{result_suffix}", param_hint="--out")
    places: dict[tuple[Path, Path], None] = {}  # (file, its place among the results), without repetitions
    for source in sources:
        for path, relative in files_of(source, wanted):
            places[path, path if folder is None else folder / relative] = None
    alike = Counter(_without_suffix(place) for _, place in places)
    jobs: dict[Path, FileJob] = {}
    for path, place in places:
        name = place.stem if alike[_without_suffix(place)] == 1 else place.name
        job = FileJob(path, place.with_name(name + result_suffix))
        other = jobs.setdefault(job.target, job)
        if other.source != path:
            raise typer.BadParameter(
                f"{other.source} and {path} would both become {job.target}; process them one by one, with --out")
    refuse_sources((job.target for job in jobs.values()), (job.source for job in jobs.values()))
    return list(jobs.values())


def refuse_sources(written: Iterable[Path], sources: Iterable[Path]) -> None:
    """Raise `typer.BadParameter` if one of the files to write is a file that the command reads."""
    read = {_resolved(source) for source in sources}
    for path in written:
        if _resolved(path) in read:
            raise typer.BadParameter(f"{path} is one of the files to read, and a result would replace it; leave it "
                                     "out, or choose another --out")


def refuse_existing(files: Iterable[Path], force: bool) -> None:
    """Raise `ExistsError` if one of the files to write exists and ``force`` is false; call it before the work."""
    for path in files:
        if path != STDOUT and path.exists() and not force:
            raise ExistsError(path, "choose another --out, or pass --force to replace it")


def read_source(path: Path) -> Path | bytes:
    """The path itself, or all bytes of `STDIN` and of a pipe, which can be read only once."""
    if path != STDIN:
        if path.is_file():
            return path
        with path.open("rb") as pipe:
            return _read_all(pipe, str(path))
    if sys.stdin is None or sys.stdin.isatty():
        state = "closed" if sys.stdin is None else "a terminal"
        raise typer.BadParameter(f"standard input is {state}; pipe a file into the command, or name one")
    return _read_all(sys.stdin.buffer, "standard input")


def write_result(path: Path, data: bytes, *, force: bool) -> None:
    """Write ``data`` to a file, atomically, or to `STDOUT`; `ExistsError` if the file exists."""
    if path == STDOUT:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    else:
        write_atomically(path, data, force=force)


def list_files(sources: Sequence[Path], wanted: frozenset[str]) -> list[Path]:
    """The files themselves, and in place of every folder the wanted files in it, at any depth."""
    return [path for source in sources for path, _ in files_of(source, wanted)]


def _raise(error: OSError) -> NoReturn:
    raise error


def _without_suffix(place: Path) -> str:
    """As file systems that ignore case compare it."""
    return str(place.with_suffix("")).casefold()


def _resolved(path: Path) -> str:
    """As file systems that ignore case compare it, with links followed."""
    return str(path.resolve()).casefold()


def _read_all(stream: BinaryIO, name: str) -> bytes:
    data = stream.read(MAX_STDIN_BYTES + 1)
    if len(data) > MAX_STDIN_BYTES:
        raise typer.BadParameter(f"{name} has more than {MAX_STDIN_BYTES:,} bytes, so it is no picture or payload that "
                                 "can be read")
    return data


def _names_file(out: str) -> bool:
    """False for a folder: one that exists, or a path that ends with a separator or has no suffix."""
    return bool(os.path.basename(out)) and bool(Path(out).suffix) and not Path(out).is_dir()


def _pipe_job(sources: Sequence[Path], out: str) -> FileJob:
    """The job of `STDIN`, whose result has no name to be derived from."""
    if len(sources) > 1:
        raise typer.BadParameter("standard input (-) is read alone, without other files")
    if out == "-":
        _refuse_terminal()
    elif not _names_file(out):
        raise typer.BadParameter(f"{out} is a folder, or has no suffix; name the file for standard input's result",
                                 param_hint="--out")
    return FileJob(STDIN, Path(out))


def _only_file(sources: Sequence[Path]) -> Path:
    """The one file whose result goes to `STDOUT`."""
    if len(sources) != 1 or sources[0].is_dir():
        raise typer.BadParameter("standard output takes the result of one file; name a folder for several",
                                 param_hint="--out")
    _refuse_terminal()
    return sources[0]


def _refuse_terminal() -> None:
    if sys.stdout is None:
        raise typer.BadParameter("standard output is closed; name a file", param_hint="--out")
    if sys.stdout.isatty():
        raise typer.BadParameter("standard output is a terminal, the result is binary; pipe it, or name a file",
                                 param_hint="--out")


def files_of(source: Path, wanted: frozenset[str]) -> Iterator[tuple[Path, Path]]:
    """(file, its path below the source) of every file that ``source`` stands for, sorted.

    Of a folder, names that begin with a dot are left out, such as macOS's ``._me.jpg``, and the commands' own results
    (`PICTURE_RESULTS`), so that a command on a folder can be repeated.
    """
    if not source.is_dir():
        yield source, Path(source.name)
        return
    alike = sorted(path for path in _visible_files(source) if path.suffix.lower() in wanted and path.is_file())
    found = [path for path in alike if not path.name.lower().endswith(PICTURE_RESULTS)]
    if not found:
        hint = "; it is a bundle: see 'edgegrain bundles show'" if (source / MANIFEST).is_file() else ""
        if alike:
            hint = f" but results of edgegrain, such as {alike[0].name}, which are taken only if they are named"
        raise typer.BadParameter(f"the folder {source} holds no file with the suffix {', '.join(sorted(wanted))}{hint}")
    for path in found:
        yield path, path.relative_to(source)


def _visible_files(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root, onerror=_raise):
        folders[:] = (name for name in folders if not name.startswith("."))  # os.walk skips the others
        yield from (Path(folder) / name for name in names if not name.startswith("."))
