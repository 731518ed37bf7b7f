"""Which files a command reads and where each result goes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer


@dataclass(frozen=True)
class FileJob:
    """One file to read and the file to write."""

    source: Path
    target: Path


def plan_jobs(
    sources: Sequence[Path], out: Path | None, *, wanted: frozenset[str], result_suffix: str
) -> list[FileJob]:
    """One job a file; folders stand for the wanted files in them, at any depth.

    Results lie beside their sources, or in the folder ``out``, where those of a folder keep its structure. For a
    single file ``out`` may name the file to write: it does where it has a suffix and is no existing folder.

    Args:
        sources: files and folders, which exist.
        out: see above.
        wanted: lower-case suffixes of the files taken from a folder.
        result_suffix: replaces the source's suffix.

    Raises:
        typer.BadParameter: a folder holds nothing of the kind, or two results would have the same name.
    """
    if out is not None and len(sources) == 1 and sources[0].is_file() and out.suffix and not out.is_dir():
        return [FileJob(sources[0], out)]
    jobs: dict[Path, FileJob] = {}
    for source in sources:
        for path, relative in _files(source, wanted):
            place = path if out is None else out / relative
            job = FileJob(path, place.with_name(place.stem + result_suffix))
            other = jobs.setdefault(job.target, job)
            if other.source != path:
                raise typer.BadParameter(
                    f"{other.source} and {path} would both become {job.target}; take them one by one, with --out")
    return list(jobs.values())


def _files(source: Path, wanted: frozenset[str]) -> Iterator[tuple[Path, Path]]:
    """(file, its path below the source) of every file that ``source`` stands for, sorted."""
    if not source.is_dir():
        yield source, Path(source.name)
        return
    found = sorted(path for path in source.rglob("*") if path.suffix.lower() in wanted and path.is_file())
    if not found:
        raise typer.BadParameter(f"the folder {source} holds no file of the kind {', '.join(sorted(wanted))}")
    for path in found:
        yield path, path.relative_to(source)
