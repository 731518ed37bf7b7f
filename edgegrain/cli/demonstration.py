"""The demonstration behind ``edgegrain demo``: compress, restore, compare, write the pictures."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

import sdk
from codec_contract.errors import EdgegrainError, ExistsError, ImageError
from codec_contract.payload import PAYLOAD_SUFFIX
from codec_contract.rgb import Rgb
from edge_encoder.preprocessing import load_picture
from edgegrain.cli.files import refuse_sources
from edgegrain.cli.output import Row
from edgegrain.evaluation.classical_codecs import best_at
from edgegrain.pictures.sheets import Tile, draw_sheet, in_rows, write_sheet
from sdk.generated_mark import COMPOSITE, MarkedPicture, mark_of

MAX_SIDE = 1024
"""Longest side of the picture that classical codecs encode; less only helps them at a few hundred bytes."""
SHEET_COLUMNS, SHEET_SIDE = 3, 384

CLASSICAL = {"jpeg": "JPEG", "webp": "WebP", "avif": "AVIF"}


def shipped_portrait() -> Path:
    """The portrait in the package, 768x768.

    Raises:
        ImageError: the file is missing from the installation.
    """
    portrait = Path(__file__).resolve().parents[1] / "demo" / "portrait_768.jpg"
    if not portrait.is_file():
        raise ImageError(f"{portrait} is missing; reinstall edgegrain, or name a picture")
    return portrait


def run_demo(picture: Path, out: Path, bundle: str, max_pixels: int, mark: bool, force: bool) -> Row:
    """Run the demonstration and return its figures; the command's help names the files.

    Raises:
        ExistsError: a file is already there and ``force`` is false.
        EdgegrainError: the picture cannot be read, or the bundle is missing or damaged.
        typer.BadParameter: one of the files is the picture.
    """
    names = [picture.stem + PAYLOAD_SUFFIX, "original.png", "lr_enlarged.png", "restored.png", "side_by_side.png"]
    files = [out / name for name in names]
    refuse_sources(files, [picture])
    existing = [path.name for path in files if path.exists()]
    if existing and not force:
        raise ExistsError(out / existing[0], "choose another --out, or pass --force to replace it")

    codec = sdk.Codec(bundle)
    # Opens the networks that its size needs, which is not timed.
    codec.restore(codec.compress(picture, max_pixels=max_pixels), max_pixels=max_pixels)
    start = time.perf_counter()
    payload = codec.compress(picture, max_pixels=max_pixels)
    compressed = time.perf_counter()
    restored = codec.restore(payload, max_pixels=max_pixels, mark=mark)
    done = time.perf_counter()

    rgb = load_picture(picture, max_pixels=max_pixels)
    side = codec.bundle.hr
    lr = Image.fromarray(payload.lr).resize((side, side), Image.Resampling.NEAREST)
    original = Image.fromarray(rgb)
    reference = original.copy()
    reference.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    classical = {label: _classical(np.asarray(reference), codec_name, len(payload))
                 for codec_name, label in CLASSICAL.items()}

    picture_bytes = picture.stat().st_size
    tiles = [
        Tile(rgb, "original", f"{picture_bytes:,} bytes as a file"),
        Tile(np.asarray(lr), "LR in the payload, enlarged", f"{payload.lr.shape[1]} x {payload.lr.shape[0]} pixels"),
        Tile(np.asarray(restored), "edgegrain", f"{len(payload):,} bytes", accent=True),
        *(Tile(rgb, label, text or f"does not fit in {len(payload):,} bytes")
          for label, (rgb, text) in classical.items()),
    ]
    sheet = draw_sheet(in_rows(tiles, SHEET_COLUMNS), side=SHEET_SIDE)
    if mark:
        sheet = MarkedPicture(sheet, replace(mark_of(codec.bundle), source_type=COMPOSITE).xmp())
    out.mkdir(parents=True, exist_ok=True)
    payload.save(files[0], force=force)
    for path, image in zip(files[1:], (original, lr, restored, sheet), strict=True):
        write_sheet(image, path, force=force)
    return {
        "picture": picture, "width": original.width, "height": original.height, "picture_bytes": picture_bytes,
        "bytes": len(payload), "file_ratio": picture_bytes / len(payload), "pixel_ratio": rgb.size / len(payload),
        "bundle": codec.bundle.id, "compress_seconds": compressed - start, "restore_seconds": done - compressed,
        "classical": {label: text for label, (_, text) in classical.items()}, "files": files}


def _classical(rgb: Rgb, codec: str, max_bytes: int) -> tuple[Rgb | None, str | None]:
    """The best result of a classical codec in ``max_bytes`` and its description; (None, reason or None) without one."""
    try:
        result = best_at(rgb, codec, max_bytes)
    except EdgegrainError as error:  # this Pillow was built without the codec
        return None, str(error)
    return (None, None) if result is None else (result.rgb, result.description)
