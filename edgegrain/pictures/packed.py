"""Training pictures: packed once into one array on disk, then drawn at random from memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from edgegrain.pictures.stored_pictures import description, read_square
from edgegrain.pictures.writing import Progress, write_array


def pack(pictures: Sequence[Path], size: int, cache: Path, report: Progress | None = None) -> np.ndarray:
    """uint8 ``[N, size, size, 3]`` of the pictures, memory-mapped from a file in ``cache``, written on first use."""
    lines = [str(size), *map(description, pictures)]
    key = hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()[:16]
    target = cache / f"pictures-{size}-{key}.npy"

    def squares() -> Iterator[np.ndarray]:
        for index, picture in enumerate(pictures, 1):
            yield read_square(picture, size)
            if report is not None:
                report(index / len(pictures), f"packing pictures of {size}x{size}")

    write_array(target, (len(pictures), size, size, 3), squares())
    return np.load(target, mmap_mode="r")


def random_pictures(count: int, size: int, seed: int) -> np.ndarray:
    """uint8 ``[count, size, size, 3]``: smooth random pictures, for trial runs without data."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (count, 6, 6, 3), np.uint8)
    return np.stack(
        [np.asarray(Image.fromarray(cells).resize((size, size), Image.Resampling.BICUBIC)) for cells in small]
    )


def batches(pictures: np.ndarray, batch: int, seed: int, device: torch.device | None = None) -> Iterator[Tensor]:
    """Endless random batches: float32 ``[batch, 3, S, S]`` integers 0...255, channels-last, flipped half the time.

    No picture is drawn again before all others were. For a CUDA device, all are copied there as uint8.
    """
    rng = np.random.default_rng(seed)
    order, position = np.empty(0, int), 0
    resident = torch.from_numpy(np.array(pictures)).to(device) if device and device.type != "cpu" else None
    while True:
        if position + batch > len(order):  # at least a batch of indices, each once before any is repeated
            order = np.concatenate([rng.permutation(len(pictures)) for _ in range(-(-batch // len(pictures)))])
            position = 0
        chosen = order[position : position + batch]
        position += batch
        flip = rng.random(batch) < 0.5
        if resident is not None:
            rows = resident[torch.from_numpy(chosen).to(resident.device)]
            mirror = torch.from_numpy(flip).to(resident.device).view(-1, 1, 1, 1)
            yield torch.where(mirror, rows.flip(2), rows).permute(0, 3, 1, 2).float()
        else:
            drawn = np.stack([pictures[index] for index in chosen])
            drawn[flip] = drawn[flip, :, ::-1]
            yield torch.from_numpy(drawn).permute(0, 3, 1, 2).float()
