"""`plan_jobs`: the files that a command reads, and the files that it writes; `refuse_existing` protects those."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer


@dataclass(frozen=True)
class FileJob:
    """A file to read and the file to write."""

    source: Path
    target: Path


def plan_jobs(
    sources: Sequence[Path], out: Path | None, *, wanted: frozenset[str], result_suffix: str
) -> list[FileJob]:
    """One job per file; a folder stands for the wanted files in it, at any depth.

    Results are written next to their sources, or into the folder ``out``, where the files of a folder keep its
    structure. For a single file ``out`` is the file to write if it has a suffix and is not an existing folder.

    Args:
        sources: existing files and folders.
        out: folder or file for the results; None for next to the sources.
        wanted: lower-case suffixes of the files taken from a folder.
        result_suffix: replaces the source's suffix.

    Raises:
        typer.BadParameter: a folder holds no wanted file, or two results would have the same name.
    """
    if out is not None and len(sources) == 1 and sources[0].is_file() and out.suffix and not out.is_dir():
        return [FileJob(sources[0], out)]
    jobs: dict[Path, FileJob] = {}
    for source in sources:
        for path, relative in files_of(source, wanted):
            place = path if out is None else out / relative
            job = FileJob(path, place.with_name(place.stem + result_suffix))
            other = jobs.setdefault(job.target, job)
            if other.source != path:
                raise typer.BadParameter(
                    f"{other.source} and {path} would both become {job.target}; process them one by one, with --out")
    return list(jobs.values())


def refuse_existing(files: Iterable[Path], force: bool) -> None:
    """Raise ``FileExistsError`` if one of the files to write exists and ``force`` is false; call it before the work."""
    for path in files:
        if path.exists() and not force:
            raise FileExistsError(f"{path} exists; choose another --out or pass --force to replace it")


def files_of(source: Path, wanted: frozenset[str]) -> Iterator[tuple[Path, Path]]:
    """(file, its path below the source) of every file that ``source`` stands for, sorted."""
    if not source.is_dir():
        yield source, Path(source.name)
        return
    found = sorted(path for path in source.rglob("*") if path.suffix.lower() in wanted and path.is_file())
    if not found:
        raise typer.BadParameter(f"the folder {source} holds no file with the suffix {', '.join(sorted(wanted))}")
    for path in found:
        yield path, path.relative_to(source)
