"""Photographs of any size, packed once into one file, and random crops of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from codec_contract.errors import ImageError
from codec_contract.files import written_whole
from edge_encoder.preprocessing import load_picture, readable_formats
from edgegrain.pictures.stored_pictures import StoredPicture
from edgegrain.pictures.writing import first_to_write, written_array


@dataclass(frozen=True, eq=False)
class Photographs:
    """Pictures of any size in one array, in memory or memory-mapped.

    Attributes:
        pixels: uint8, flat.
        sizes: int64 ``[N, 2]``, height and width of every picture.
    """

    pixels: np.ndarray
    sizes: np.ndarray

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: int) -> np.ndarray:
        """uint8 ``[H, W, 3]``."""
        height, width = self.sizes[index]
        start = 3 * int(self.sizes[:index].prod(1).sum())
        return self.pixels[start : start + 3 * height * width].reshape(height, width, 3)

    @classmethod
    def of(cls, pictures: Sequence[np.ndarray]) -> Photographs:
        """Pack uint8 ``[H, W, 3]`` arrays."""
        sizes = np.array([picture.shape[:2] for picture in pictures], np.int64).reshape(-1, 2)
        return cls(np.concatenate([picture.reshape(-1) for picture in pictures]), sizes)


def pack_photographs(paths: Sequence[Path], cache: str | Path) -> Photographs:
    """The pictures, memory-mapped from files in ``cache`` that are written on first use, as those of
    `edgegrain.pictures.packed.pack`.
    """
    described = "\n".join(StoredPicture(path.name, path).description() for path in paths)
    key = hashlib.sha256(described.encode(errors="surrogateescape")).hexdigest()[:16]
    pixels, sizes = (Path(cache) / f"photographs-{key}.{part}.npy" for part in ("pixels", "sizes"))
    with first_to_write(pixels) as first:  # they appear after the sizes
        if first:
            _write(paths, pixels, sizes)
    return Photographs(np.load(pixels, mmap_mode="r"), np.load(sizes))


def crops(photographs: Photographs, batch: int, side: int, seed: int, device: torch.device | None = None
          ) -> Iterator[Tensor]:
    """Endless batches of random crops, float32 ``[batch, 3, side, side]`` in [0, 1], flipped both ways at random
    ([IRN] appendix 2).

    Every picture gives one crop before any gives a second one; pictures smaller than a crop are left out.
    """
    usable = np.flatnonzero(photographs.sizes.min(1) >= side)
    if not len(usable):
        raise ImageError(f"no picture has sides of {side} pixels, the size of a crop; pass larger pictures, or "
                         "make the crop smaller")
    rng = np.random.default_rng(seed)
    order: list[int] = []
    while True:
        taken = []
        for _ in range(batch):
            order = order or rng.permutation(usable).tolist()
            picture = photographs[order.pop()]
            top, left = (int(rng.integers(length - side + 1)) for length in picture.shape[:2])
            crop = picture[top : top + side, left : left + side]
            vertically, horizontally = (2 * int(rng.integers(2)) - 1 for _ in range(2))
            taken.append(crop[::vertically, ::horizontally])
        yield torch.from_numpy(np.stack(taken)).to(device).permute(0, 3, 1, 2).float().div(255)


def _write(paths: Sequence[Path], pixels: Path, sizes: Path) -> None:
    counts = [_pixel_count(path) for path in paths]
    with written_array(pixels, (3 * sum(counts),)) as packed:
        shapes, start = [], 0
        for path, count in zip(paths, counts, strict=True):
            picture = load_picture(path)
            if picture.size != 3 * count:
                raise ImageError(f"{path} has another size than its header says; remove it, or leave it out with "
                                 "--exclude")
            packed[start : start + picture.size] = picture.reshape(-1)
            shapes.append(picture.shape[:2])
            start += picture.size
        with written_whole(sizes) as temporary, temporary.open("wb") as file:
            np.save(file, np.array(shapes, np.int64), allow_pickle=False)


def _pixel_count(path: Path) -> int:
    """Height times width, from the file's header."""
    try:
        with Image.open(path, formats=readable_formats()) as image:
            return image.height * image.width
    except Exception:  # a damaged header can make Pillow's readers raise any type
        return load_picture(path).size // 3  # raises the error that names the reason
