"""Batches of restored pictures with windows of their originals, a part of them around eyes, mouth and hair."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from edgegrain.metrics.face_regions import CENTRES
from edgegrain.training.super_resolution.pairs import Pairs
from edgegrain.training.super_resolution.recipes import SuperResolutionRecipe
from server_decoder.window import Window

HAIR = {"top": (0.5, 0.1), "left": (0.14, 0.3), "right": (0.86, 0.3)}
"""Positions (x, y) where aligned faces usually have hair, as fractions of the side."""
_REGIONS = (*CENTRES.values(), *HAIR.values())
CELL = 4
"""Corners of windows are multiples of it, in pixels of S, so that a grid of ``CELL * factor`` has one place in them."""
_SPREAD = 0.25  # of a window's side: standard deviation of its centre around a region's


class WindowBatch(NamedTuple):
    """A batch of training.

    Attributes:
        picture: restored pictures, integers 0...255, float32 ``[B, 3, S, S]``; those of photographs first.
        windows: of every picture.
        target: the windows of the originals, as integers, ``[B * windows, 3, k * window, k * window]``.
        real: number of windows of photographs; they come first.
    """

    picture: Tensor
    windows: list[list[Window]]
    target: Tensor
    real: int


def window_batches(recipe: SuperResolutionRecipe, pairs: Pairs, seed: int, device: torch.device
                   ) -> Iterator[WindowBatch]:
    """Endless random batches, mirrored half the time. Every picture is drawn once before any is drawn again.

    Without photographs, whole batches are of generated pictures.
    """
    rng = np.random.default_rng(seed)
    generated = np.flatnonzero(pairs.generated)
    count = min(recipe.batch - 1, round(recipe.generated_part * recipe.batch)) if len(generated) else 0
    if pairs.generated.all():
        count = recipe.batch
    pools = [(_orders(rng, np.flatnonzero(~pairs.generated)), recipe.batch - count), (_orders(rng, generated), count)]
    while True:
        chosen = [next(order) for order, wanted in pools for _ in range(wanted)]
        pictures, windows, targets = [], [], []
        for index in chosen:
            mirrored = rng.random() < 0.5
            restored = pairs.restored[index]
            pictures.append(restored[:, ::-1] if mirrored else restored)
            windows.append([draw_window(rng, recipe) for _ in range(recipe.windows)])
            targets += [crop_window(pairs.originals[index], window, recipe.factor, mirrored) for window in windows[-1]]
        yield WindowBatch(_stacked(pictures, device), windows, _stacked(targets, device),
                          (recipe.batch - count) * recipe.windows)


def draw_window(rng: np.random.Generator, recipe: SuperResolutionRecipe) -> Window:
    """A window around a region of the face, or anywhere; its corner is a multiple of `CELL`."""
    side, last = recipe.window, recipe.size - recipe.window
    if rng.random() < recipe.region_part:
        centre = recipe.size * np.array(_REGIONS[rng.integers(len(_REGIONS))]) + rng.normal(0, _SPREAD * side, 2)
        left, top = np.clip(np.rint(centre - side / 2), 0, last).astype(int)
    else:
        left, top = rng.integers(0, last + 1, 2)
    return Window(int(top) // CELL * CELL, int(left) // CELL * CELL, side)


def crop_window(original: np.ndarray, window: Window, factor: int, mirrored: bool = False) -> np.ndarray:
    """The window of an original, or of its mirror image, ``[factor * size, factor * size, 3]``."""
    top, left, size = (factor * length for length in window)
    if not mirrored:
        return original[top : top + size, left : left + size]
    end = original.shape[1] - left
    return original[top : top + size, end - size : end][:, ::-1]


def _orders(rng: np.random.Generator, indices: np.ndarray) -> Iterator[int]:
    while len(indices):
        yield from rng.permutation(indices).tolist()


def _stacked(pictures: list[np.ndarray], device: torch.device) -> Tensor:
    return torch.from_numpy(np.stack(pictures)).to(device).permute(0, 3, 1, 2).float()
