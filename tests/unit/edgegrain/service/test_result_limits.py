"""Limits on the picture of a payload, checked when its job is made, before its body is decoded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codec_contract.bundle.manifest import load_manifest
from codec_contract.errors import ImageError, PayloadError
from codec_contract.lr_coder.coder_tables import CoderTables
from codec_contract.oriented_square import OrientedSquare
from codec_contract.payload import CODING_RAW, encode_payload
from codec_contract.scene import encode_scene
from edgegrain.service.batcher import Job
from edgegrain.service.engine import RestoreOptions
from edgegrain.service.settings import Settings
from edgegrain.service.state import ServiceState


def payload(folder: Path, size: tuple[int, int] = (300, 200), *, side: int = 16, **options: Any) -> bytes:
    manifest = load_manifest(folder)
    lr = np.zeros((side, side, 3), np.uint8)
    return encode_payload(lr, **{"contract_id": manifest.lr_contract_id, "tables": CoderTables.default(),
                                 "original_size": size, "coding": CODING_RAW, **options})


async def job(folder: Path, data: bytes, size: Any = "original", max_pixels: int = 60_000, **options: Any) -> Job:
    limits = {"max_scene_faces": options.pop("faces", 16)}
    state = ServiceState(Settings(bundles=(str(folder),), max_pixels=max_pixels, **limits))
    return state.restore_job(data, RestoreOptions(size, **options))


@pytest.mark.parametrize(("size", "fit", "pixels"), [
    ("original", "pad", 60_000), ("original", "stretch", 60_000), ("original", "crop", 40_000),
    ("native", "pad", 4096), ("native", "crop", 4096)])
async def test_pixels_of_the_result(tiny_bundle: Path, size: str, fit: str, pixels: int) -> None:
    assert (await job(tiny_bundle, payload(tiny_bundle, fit=fit), size)).pixels == pixels


@pytest.mark.parametrize(("original", "size", "pixels"), [
    ((300, 200), "native", 64 * 64), ((300, 200), 64, 64 * 64), ((300, 200), 65, 128 * 128),
    ((300, 200), "original", 256 * 256), ((300, 200), 256, 256 * 256), ((100, 50), "original", 128 * 128),
    ((1, 1), "original", 64 * 64)])
async def test_the_enlarged_square_counts(enlarging: Path, original: tuple[int, int], size: Any, pixels: int) -> None:
    assert (await job(enlarging, payload(enlarging, original), size)).pixels == pixels


async def test_of_an_aligned_picture_the_square_counts(tiny_bundle: Path) -> None:
    aligned = payload(tiny_bundle, fit="align", square=OrientedSquare(400, 400, 320, 240))
    assert (await job(tiny_bundle, aligned, max_pixels=10_000)).pixels == 10_000
    with pytest.raises(ImageError, match="100 x 100 pixels, more than 9999"):
        await job(tiny_bundle, aligned, max_pixels=9_999)


@pytest.mark.parametrize(("changes", "error", "message"), [
    ({"contract_id": b"abcd" * 8}, PayloadError, "LR contract 6162, .*available: "),
    ({"side": 8}, PayloadError, "LR of 8 x 8, bundle .* works with 16 x 16"),
    ({"size": (301, 200)}, ImageError, "301 x 200 pixels, more than 60000"),
    ({"size": (30000, 2)}, ImageError, "have at most 16383")])
async def test_refusals(enlarging: Path, changes: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        await job(enlarging, payload(enlarging, **changes), format="webp")


@pytest.mark.parametrize(("size", "counted"), [("original", 4), ("native", 2), (160, 2), (161, 4)])
async def test_enlarged_faces_count_twice(tiny_bundle: Path, enlarging: Path, size: Any, counted: int) -> None:
    for folder, most in ((tiny_bundle, 2), (enlarging, counted)):
        squares = [OrientedSquare(x, 200, 320, 0) for x in (200, 600)]  # with sides of 80 pixels
        faces = [payload(folder, (200, 100), fit="align", square=square) for square in squares]
        scene = encode_scene(faces, (200, 100))
        assert (await job(folder, scene, size, faces=most)).key.faces == 2
        with pytest.raises(ImageError, match="2 faces.*more than the"):
            await job(folder, scene, size, faces=most - 1)
