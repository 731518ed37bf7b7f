"""Training pictures as a few tar files of limited size, for quick reading and transfer (``edgegrain pictures pack``).

Every picture is cut to a square, resized as in training and stored as WebP. Shards are plain tar files, as for
WebDataset. A trainer reads all shards of its folder, so they can be sent one by one.
"""

from __future__ import annotations

import io
import itertools
import os
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from codec_contract.errors import EdgegrainError, ExistsError, ImageError
from codec_contract.exact_square import cut_square
from codec_contract.files import written_whole
from edge_encoder.faces.alignment import ffhq_square
from edge_encoder.preprocessing import load_picture
from edgegrain.pictures.stored_pictures import StoredPicture, open_picture, read_square
from edgegrain.pictures.writing import Progress, exit_on_sigterm, only_writer
from sdk.faces import finder

_BLOCK = 512  # a tar member's content is padded to it
_END = 10_240 + 512  # the most that tar adds: two blocks of zeros, then zeros up to a multiple of 10,240
_FORMAT: Final = tarfile.PAX_FORMAT  # names may have any length

ReadSquare = Callable[[StoredPicture, int], np.ndarray | None]
"""A picture's square of a side, uint8 ``[side, side, 3]``; None leaves the picture out."""


@exit_on_sigterm()
def write_shards(pictures: Sequence[StoredPicture], out: Path, *, side: int, limit: int, quality: int | None = 92,
                 read: ReadSquare = read_square, force: bool = False, report: Progress | None = None) -> list[Path]:
    """Write pictures into ``SIDE-00000.tar``, ``SIDE-00001.tar``, ... of at most ``limit`` bytes each.

    Members are in a fixed random order, so that every shard is a sample of all pictures. The shards appear when all are
    written; an interruption, also by SIGTERM, leaves the folder as it was. One process at a time writes to a folder.
    ``quality`` is WebP's, None for lossless.
    """
    with only_writer(out):
        existing = sorted(out.glob(f"{side}-*.tar"))
        if existing and not force:
            raise ExistsError(existing[0], "choose another folder, or pass --force to replace its shards")
        members = _members(pictures, side, quality, read)
        finished: list[Path] = []  # under temporary names: the pictures may lie in the shards that they replace
        shard: list[tuple[str, bytes]] = []
        used = _END
        try:
            for done, (name, content) in enumerate(members, 1):
                if content is None:
                    continue
                # The header has one block, or several if the name is long.
                size = len(_entry(name, content).tobuf(_FORMAT)) + -(-len(content) // _BLOCK) * _BLOCK
                if _END + size > limit:
                    raise EdgegrainError(f"{name} takes {size:,} bytes, more than the limit of {limit:,} leaves; raise "
                                         "--limit-mb")
                if used + size > limit:
                    finished.append(write_shard(out / f".{side}-{len(finished):05}.partial", shard))
                    shard, used = [], _END
                shard.append((name, content))
                used += size
                if report is not None:
                    report(done / len(pictures), f"{done:,} pictures, {len(finished)} shards")
            if not shard:
                raise EdgegrainError(f"all {len(pictures)} pictures were left out; nothing was written")
            finished.append(write_shard(out / f".{side}-{len(finished):05}.partial", shard))
        except BaseException:
            for temporary in finished:
                temporary.unlink()
            raise
        written = [out / f"{side}-{index:05}.tar" for index in range(len(finished))]
        for temporary, path in zip(finished, written, strict=True):
            os.replace(temporary, path)
        for old in set(existing) - set(written):
            old.unlink()
        return written


def write_shard(path: Path, members: Sequence[tuple[str, bytes]]) -> Path:
    """Write a tar file of members, name and content; an interruption leaves none."""
    with written_whole(path) as temporary, tarfile.open(temporary, "w", format=_FORMAT) as tar:
        for name, content in members:
            tar.addfile(_entry(name, content), io.BytesIO(content))
    return path


def _members(pictures: Sequence[StoredPicture], side: int, quality: int | None, read: ReadSquare
             ) -> Iterator[tuple[str, bytes | None]]:
    """Name and content of every member in a fixed random order; no content for a picture that is left out."""
    names = _member_names(pictures)
    for index in np.random.default_rng(0).permutation(len(pictures)):
        square = read(pictures[index], side)
        yield names[index], None if square is None else _encoded(square, quality)


def _member_names(pictures: Sequence[StoredPicture]) -> list[str]:
    """A name for each picture: ``a.webp`` and ``a-2.webp`` for ``a.jpg`` and ``a.png``."""
    taken: dict[str, None] = {}
    for picture in pictures:
        stem = Path(picture.name).stem
        numbered = (f"{stem}-{number}.webp" for number in itertools.count(2))
        taken[next(name for name in itertools.chain([f"{stem}.webp"], numbered) if name not in taken)] = None
    return list(taken)


def _encoded(square: np.ndarray, quality: int | None) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(square).save(
        buffer, "WEBP", method=4, lossless=quality is None, quality=75 if quality is None else quality)
    return buffer.getvalue()


def _entry(name: str, content: bytes) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    return entry


class AlignedFaces:
    """Reads aligned faces; lists the pictures that it leaves out: without a face, or with one of fewer pixels than the
    stored square, which would teach a decoder to blur."""

    def __init__(self) -> None:
        self.without_face: list[str] = []
        self.too_small: list[str] = []

    def __call__(self, picture: StoredPicture, size: int) -> np.ndarray | None:
        """The aligned face of a picture, uint8 ``[size, size, 3]``; None if the picture is left out."""
        with open_picture(picture) as image:
            rgb = load_picture(image)
        try:
            square = next(ffhq_square(face.points, (rgb.shape[1], rgb.shape[0])) for face in finder().find(rgb))
        except (StopIteration, ImageError):
            self.without_face.append(picture.name)
            return None
        if square.side < size:
            self.too_small.append(picture.name)
            return None
        return cut_square(rgb, square, size)
