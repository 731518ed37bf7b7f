"""Training pictures as a few tar files: small enough to send, quick to read, no file per picture.

    python -m edgegrain.pictures.tar_shards FACES SHARDS --side 256 --limit-mb 15
    python -m edgegrain.training.train --data SHARDS ...

Every picture is cut to its centre square, resized as training does, and stored as WebP. Shards are plain tar files, as
WebDataset has them. A trainer takes whatever shards are in its folder, so they can be sent one by one.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image

from codec_contract.errors import EdgegrainError
from edgegrain.pictures.packed import StoredPicture, read_square, stored_pictures
from edgegrain.training.console import errors_on_one_line, progress_bar

_BLOCK = 512  # a tar member's header, and what its content is padded to
_END = 10_240  # tar ends in zeros up to a multiple of this


def write_shards(pictures: Sequence[StoredPicture], out: Path, *, side: int, limit: int, quality: int | None = 92,
                 force: bool = False, report: Callable[[float, str], None] | None = None) -> list[Path]:
    """Write pictures into ``SIDE-00000.tar``, ``SIDE-00001.tar``, ... of at most ``limit`` bytes each.

    Members are in a fixed random order, so that every shard is a sample of all. Interrupted, it leaves whole shards
    only.

    Args:
        pictures: what to store, under their names with the suffix .webp.
        out: folder of the shards.
        side: of the stored squares, in pixels.
        limit: of every shard, in bytes.
        quality: of WebP, 0...100; None for lossless.
        force: replace shards that are there.
        report: is told how much is done, 0...1, and in words.

    Raises:
        FileExistsError: there are shards of that side, and ``force`` is false.
        EdgegrainError: a single picture exceeds the limit.
    """
    there = sorted(out.glob(f"{side}-*.tar"))
    if there and not force:
        raise FileExistsError(f"{there[0]} exists; choose another folder or pass --force to replace its shards")
    out.mkdir(parents=True, exist_ok=True)
    order = np.random.default_rng(0).permutation(len(pictures))
    members = _encoded([pictures[index] for index in order], side, quality)
    written: list[Path] = []
    shard: list[tuple[str, bytes]] = []
    used = _END
    for done, (name, content) in enumerate(members, 1):
        size = _BLOCK + -(-len(content) // _BLOCK) * _BLOCK
        if _END + size > limit:
            raise EdgegrainError(f"{name} takes {size:,} bytes, more than the limit of {limit:,} leaves; raise "
                                 "--limit-mb")
        if used + size > limit:
            written.append(_write(out / f"{side}-{len(written):05}.tar", shard))
            shard, used = [], _END
        shard.append((name, content))
        used += size
        if report is not None:
            report(done / len(pictures), f"{done:,} pictures, {len(written)} shards")
    written.append(_write(out / f"{side}-{len(written):05}.tar", shard))
    for old in set(there) - set(written):
        old.unlink()
    return written


def _encoded(pictures: Sequence[StoredPicture], side: int, quality: int | None) -> Iterator[tuple[str, bytes]]:
    for picture in pictures:
        buffer = io.BytesIO()
        Image.fromarray(read_square(picture, side)).save(
            buffer, "WEBP", method=4, lossless=quality is None, quality=75 if quality is None else quality)
        yield f"{Path(picture.name).stem}.webp", buffer.getvalue()


def _write(path: Path, members: Sequence[tuple[str, bytes]]) -> Path:
    temporary = path.with_suffix(f".{os.getpid()}.partial")
    try:
        with tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
            for name, content in members:
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def main(
    pictures: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Folder of pictures, or of shards.")],
    out: Annotated[Path, typer.Argument(file_okay=False, help="Folder for the shards.")],
    side: Annotated[int, typer.Option(min=16, help="Side of the stored squares, in pixels.")] = 256,
    limit_mb: Annotated[float, typer.Option(min=0.1, help="Largest shard, in megabytes.")] = 100.0,
    quality: Annotated[int, typer.Option(min=0, max=100, help="Of WebP.")] = 92,
    lossless: Annotated[bool, typer.Option("--lossless", help="Lossless WebP: about ten times the size.")] = False,
    exclude: Annotated[list[str] | None, typer.Option(help="Name patterns to leave out, e.g. 'usgov_*'.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the folder's shards.")] = False,
) -> None:
    """Store training pictures as tar shards of limited size."""
    with errors_on_one_line(), progress_bar() as report:
        shards = write_shards(stored_pictures(pictures, tuple(exclude or ())), out, side=side,
                              limit=round(limit_mb * 1e6), quality=None if lossless else quality, force=force,
                              report=report)
    typer.echo(f"{len(shards)} shards, {sum(path.stat().st_size for path in shards) / 1e6:.1f} MB, in {out}")


if __name__ == "__main__":
    typer.run(main)
