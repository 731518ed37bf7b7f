"""Training pairs: originals at the enlarged size, and what a bundle restores of them; batches of windows."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from codec_contract.bundle.find import find_bundle
from codec_contract.bundle.manifest import load_manifest
from codec_contract.errors import BundleError, ImageError
from codec_contract.exact_square import exact_resize
from codec_contract.lr_coder.coder_tables import rounded
from edgegrain.metrics.picture_metrics import CENTRES
from edgegrain.pictures.packed import pack, random_pictures
from edgegrain.pictures.stored_pictures import list_pictures, open_picture
from edgegrain.pictures.writing import Progress, write_array
from edgegrain.training.data import packed_folder
from edgegrain.training.family import RunOptions
from edgegrain.training.super_resolution.recipes import SuperResolutionRecipe
from sdk.open_bundle import OpenBundle
from server_decoder.generative_prior import Window

HELD_OUT = 8  # pictures that a run is evaluated on: whole ones, at full size
_AT_ONCE = 8  # pictures that a bundle restores together


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pictures, in memory or memory-mapped: restored ones, uint8 ``[N, S, S, 3]``, originals, ``[N, kS, kS, 3]``."""

    restored: np.ndarray
    originals: np.ndarray

    def __len__(self) -> int:
        return len(self.originals)


def training_pairs(recipe: SuperResolutionRecipe, options: RunOptions, run: Path) -> tuple[Pairs, Pairs]:
    """The pairs that a recipe and the command line name, to train and to evaluate on."""
    cache = packed_folder(run)
    pairs = (
        _random_pairs(recipe)
        if options.data is None
        else packed_pairs(recipe, list_pictures(options.data, options.exclude), cache, options.report)
    )
    held_out = (
        pairs
        if options.validation is None
        else packed_pairs(recipe, list_pictures(options.validation)[:HELD_OUT], cache, options.report)
    )
    return pairs, Pairs(held_out.restored[:HELD_OUT], held_out.originals[:HELD_OUT])


def packed_pairs(
    recipe: SuperResolutionRecipe, pictures: Sequence[Path], cache: Path, report: Progress | None = None
) -> Pairs:
    """The pairs of pictures, memory-mapped from files in ``cache`` that are written on first use."""
    side, small = recipe.factor * recipe.size, []
    for picture in pictures:
        with open_picture(picture) as image:
            if min(image.size) < side:
                small.append(f"{picture} ({min(image.size)} pixels)")
    if small:
        raise ImageError(
            f"{len(small)} pictures have sides below {side} pixels, such as {small[0]}; remove them, or "
            "leave them out with --exclude"
        )
    originals = pack(pictures, side, cache, report)
    return Pairs(restored_pictures(originals, recipe.bundle, recipe.size, cache, report), originals)


def restored_pictures(
    originals: np.ndarray, bundle: str, size: int, cache: Path, report: Progress | None = None
) -> np.ndarray:
    """uint8 ``[N, size, size, 3]``: what a bundle restores of originals, reduced by the contract's exact resize.

    The file in ``cache`` is named by a hash of the originals (from `edgegrain.pictures.packed.pack`) and of the
    bundle's encoder, level step and decoder. Of several processes the first writes it, the others wait.
    """
    manifest = load_manifest(find_bundle(bundle))
    if manifest.hr != size or manifest.tile_overlap is not None:
        raise BundleError(
            f"bundle {manifest.id} restores pictures of {manifest.hr}x{manifest.hr}, the recipe enlarges "
            f"those of {size}x{size}"
        )
    opened = OpenBundle(manifest, threads=torch.get_num_threads(), form="default")
    decoder = manifest.entry(manifest.decoder["file"]).sha256
    name = Path(str(getattr(originals, "filename", ""))).name
    step = opened.tables.step
    parts = [name, manifest.lr_contract_id.hex(), decoder, *([f"step {step}"] if step > 1 else [])]
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    target = cache / f"restored-{size}-{key}.npy"

    def restored() -> Iterator[np.ndarray]:
        for start in range(0, len(originals), _AT_ONCE):
            squares = np.stack(
                [
                    exact_resize(np.ascontiguousarray(picture), (size, size))
                    for picture in originals[start : start + _AT_ONCE]
                ]
            )
            yield opened.decode(rounded(opened.encoder.encode(squares), step))
            if report is not None:
                report(min(1.0, (start + _AT_ONCE) / len(originals)), f"restoring pictures with {manifest.id}")

    write_array(target, (len(originals), size, size, 3), restored())
    return np.load(target, mmap_mode="r")


def _random_pairs(recipe: SuperResolutionRecipe) -> Pairs:
    """Random pictures, reduced too far and enlarged again in place of a bundle's."""
    originals = random_pictures(recipe.random_pictures, recipe.factor * recipe.size, recipe.seed)
    small = [Image.fromarray(exact_resize(picture, (recipe.size // 4, recipe.size // 4))) for picture in originals]
    restored = np.stack(
        [np.asarray(picture.resize((recipe.size, recipe.size), Image.Resampling.BILINEAR)) for picture in small]
    )
    return Pairs(restored, originals)


HAIR = {"top": (0.5, 0.1), "left": (0.14, 0.3), "right": (0.86, 0.3)}
"""Positions (x, y) where aligned faces usually have hair, as fractions of the side."""
_REGIONS = (*CENTRES.values(), *HAIR.values())
CELL = 4
"""Corners of windows are multiples of it, in pixels of S, so that a grid of ``CELL * factor`` has one place in them."""
_SPREAD = 0.25  # of a window's side: standard deviation of its centre around a region's


class WindowBatch(NamedTuple):
    """Restored pictures, integers 0...255, float32 ``[B, 3, S, S]``, the windows of every picture, and those of
    originals, ``[B * windows, 3, k * window, k * window]``."""

    picture: Tensor
    windows: list[list[Window]]
    target: Tensor


def window_batches(
    recipe: SuperResolutionRecipe, pairs: Pairs, seed: int, device: torch.device
) -> Iterator[WindowBatch]:
    """Endless random batches, mirrored half the time. Every picture is drawn once before any is drawn again."""
    rng = np.random.default_rng(seed)
    order = itertools.chain.from_iterable(rng.permutation(len(pairs)).tolist() for _ in itertools.count())

    def stacked(pictures: list[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.stack(pictures)).to(device).permute(0, 3, 1, 2).float()

    while True:
        chosen = list(itertools.islice(order, recipe.batch))
        pictures, windows, targets = [], [], []
        for index in chosen:
            restored, original = pairs.restored[index], pairs.originals[index]
            if rng.random() < 0.5:
                restored, original = restored[:, ::-1], original[:, ::-1]
            pictures.append(restored)
            windows.append([draw_window(rng, recipe) for _ in range(recipe.windows)])
            targets += [crop_window(original, window, recipe.factor) for window in windows[-1]]
        yield WindowBatch(stacked(pictures), windows, stacked(targets))


def draw_window(rng: np.random.Generator, recipe: SuperResolutionRecipe) -> Window:
    """A window around a region of the face, or anywhere; its corner is a multiple of `CELL`."""
    side, last = recipe.window, recipe.size - recipe.window
    if rng.random() < recipe.region_part:
        centre = recipe.size * np.array(_REGIONS[rng.integers(len(_REGIONS))]) + rng.normal(0, _SPREAD * side, 2)
        left, top = np.clip(np.rint(centre - side / 2), 0, last).astype(int)
    else:
        left, top = rng.integers(0, last + 1, 2)
    return Window(int(top) // CELL * CELL, int(left) // CELL * CELL, side)


def crop_window(original: np.ndarray, window: Window, factor: int) -> np.ndarray:
    """The window of an original, ``[factor * size, factor * size, 3]``."""
    top, left, size = (factor * length for length in window)
    return original[top : top + size, left : left + size]
