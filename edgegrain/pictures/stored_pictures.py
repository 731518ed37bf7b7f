"""Pictures of a folder, as files or in tar shards, and their centre squares."""

from __future__ import annotations

import contextlib
import fnmatch
import io
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from codec_contract.errors import ImageError
from codec_contract.fit import fit_picture
from codec_contract.payload import FIT_CROP
from codec_contract.pixels import Rgb
from edge_encoder.preprocessing import load_picture, readable_formats

SUFFIXES = (".png", ".webp", ".jpg", ".jpeg")
_END_OF_TAR = bytes(1024)


@dataclass(frozen=True)
class StoredPicture:
    """An encoded picture: a file, or a member of a tar shard.

    Attributes:
        name: of the file or member.
        path: of the file that holds it.
        offset, size: position in a shard, in bytes; size None for a separate file.
    """

    name: str
    path: Path
    offset: int = 0
    size: int | None = None

    def open(self) -> io.BytesIO:
        """The file's bytes, for Pillow."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return io.BytesIO(file.read(-1 if self.size is None else self.size))

    def description(self) -> str:
        """Name, length and time of the last change of the file, which tell other pictures of the same name apart."""
        file = self.path.stat()
        return f"{self.name} {file.st_size if self.size is None else self.size} {file.st_mtime_ns}"


def stored_pictures(folder: str | Path, exclude: tuple[str, ...] = ()) -> list[StoredPicture]:
    """The pictures of a folder and of the tar shards in it (`edgegrain.pictures.tar_shards`), by name."""
    pictures = [StoredPicture(path.name, path) for path in Path(folder).iterdir() if path.suffix.lower() in SUFFIXES]
    for shard in Path(folder).glob("*.tar"):
        try:
            pictures += [picture for picture in _members(shard) if Path(picture.name).suffix.lower() in SUFFIXES]
        except (tarfile.TarError, ValueError, OverflowError, MemoryError) as error:  # of a damaged size or name
            why = str(error) or "a claimed size exceeds the memory"
            raise ImageError(f"{shard} is not a complete tar file: {why}; copy or write it again") from error
    kept = [picture for picture in sorted(pictures, key=lambda picture: picture.name)
            if not matches(picture.name, exclude)]
    if pictures and not kept:
        raise ImageError(f"the names of all {len(pictures)} pictures in {folder} are left out ({', '.join(exclude)}); "
                         "add others")
    if not kept:
        raise ImageError(f"no pictures ({', '.join(SUFFIXES)}) in {folder}, nor tar shards of them")
    return kept


def list_pictures(folder: str | Path, exclude: tuple[str, ...] = ()) -> list[Path]:
    """Picture files of a folder by name, without those matching a pattern of ``exclude`` (``usgov_*``)."""
    paths = sorted(path for path in Path(folder).iterdir()
                   if path.suffix.lower() in SUFFIXES and not matches(path.name, exclude))
    if not paths:
        raise ImageError(f"no pictures ({', '.join(SUFFIXES)}) in {folder}")
    return paths


def matches(name: str, patterns: Iterable[str]) -> bool:
    """True if a file's name matches one of the patterns (``usgov_*``)."""
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


def read_square(picture: StoredPicture, size: int) -> np.ndarray:
    """uint8 ``[size, size, 3]`` of a picture to train on: its centre square, resized by the contract's exact resize.

    Orientation, colour profile and transparency are treated as the encoder treats them. A JPEG of more than eight times
    the size is decoded at a half to an eighth of its own, which saves most of the time; the original of a comparison
    (`edgegrain.pictures.stored_pictures`) is decoded whole.
    """
    with open_picture(picture) as image:
        image.draft("RGB", (4 * size, 4 * size))  # at least this large
        return fit_picture(load_picture(image), size, FIT_CROP)


@contextlib.contextmanager
def open_picture(picture: StoredPicture) -> Iterator[Image.Image]:
    """The picture for the block to decode."""
    try:
        file = picture.open()
        try:
            image = Image.open(file, formats=readable_formats())
        except UnidentifiedImageError:
            load_picture(file.getvalue())  # raises the error that names the reason
            raise
        with image:
            yield image
    except Exception as error:  # damaged files can make Pillow's readers raise any type
        folder = picture.path.parent if picture.size is None else picture.path
        raise ImageError(f"{picture.name} in {folder} cannot be read as a picture ({error}); remove it, or leave it "
                         "out with --exclude") from error


def _members(shard: Path) -> Iterator[StoredPicture]:
    """The files in a tar shard, which is read to its end."""
    length = shard.stat().st_size
    with shard.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
        for member in tar:
            # tarfile follows a negative size backwards, and takes the size of a sparse member from its content.
            if member.size < 0 or member.isfile() and member.size > length - member.offset_data:
                raise tarfile.ReadError(f"{member.name} claims to have {member.size:,} bytes")
            if member.isfile():
                yield StoredPicture(Path(member.name).name, shard, member.offset_data, member.size)
        file.seek(tar.offset)
        if file.read(len(_END_OF_TAR)) != _END_OF_TAR:  # tarfile stops at a header that is cut or damaged
            raise tarfile.ReadError(f"no member and no end of the archive at byte {tar.offset}")


def original_of(path: Path, side: int) -> Rgb:
    """The centre square of a picture file, uint8 ``[side, side, 3]``."""
    return fit_picture(load_picture(path), side, FIT_CROP)
