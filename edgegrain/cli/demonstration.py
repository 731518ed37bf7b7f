"""What ``edgegrain demo`` does: compress, restore, compare, write the pictures."""

from __future__ import annotations

import io
import time
from pathlib import Path

import numpy as np
from PIL import Image

import sdk
from codec_contract.errors import EdgegrainError, ImageError
from codec_contract.files import write_atomically
from codec_contract.payload import PAYLOAD_SUFFIX
from edge_encoder.preprocessing import load_picture
from edgegrain.cli.output import Row
from edgegrain.evaluation.classical_codecs import best_at
from edgegrain.pictures.comparison_sheet import Tile, draw_sheet

MAX_SIDE = 1024
"""Classical codecs get the picture at no more than this, which only helps them at some hundred bytes."""

CLASSICAL = {"jpeg": "JPEG", "webp": "WebP", "avif": "AVIF"}


def shipped_portrait() -> Path:
    """The portrait that comes with the package.

    Raises:
        ImageError: the installation has lost it.
    """
    folder = Path(__file__).resolve().parents[1] / "demo"
    found = sorted(folder.glob("*.jpg"))
    if not found:
        raise ImageError(f"no portrait in {folder}; the installation is incomplete, or name a picture of your own")
    return found[0]


def run_demo(picture: Path, out: Path, bundle: str, force: bool) -> Row:
    """Do the demonstration and return what it found; the command's help names the files.

    Raises:
        FileExistsError: a file is already there and ``force`` is false.
        EdgegrainError: the picture cannot be read, or the bundle is missing or damaged.
    """
    names = [picture.stem + PAYLOAD_SUFFIX, "original.png", "lr_enlarged.png", "restored.png", "side_by_side.png"]
    files = [out / name for name in names]
    existing = [path.name for path in files if path.exists()]
    if existing and not force:
        raise FileExistsError(f"{out} already holds {', '.join(existing)}; choose another --out or pass --force")

    codec = sdk.Codec(bundle)
    codec.warm_up()
    start = time.perf_counter()
    payload = codec.compress(picture)
    compressed = time.perf_counter()
    restored = codec.restore(payload)
    done = time.perf_counter()

    rgb = load_picture(picture)
    original = Image.fromarray(rgb)
    side = codec.bundle.hr
    lr = Image.fromarray(payload.lr).resize((side, side), Image.Resampling.NEAREST)
    reference = original.copy()
    reference.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    classical = {label: _classical(np.asarray(reference), codec_name, len(payload))
                 for codec_name, label in CLASSICAL.items()}

    picture_bytes = picture.stat().st_size
    sheet = draw_sheet([
        Tile(original, "original", f"{picture_bytes:,} bytes as a file"),
        Tile(lr, "what travels, enlarged", f"{payload.lr.shape[1]} x {payload.lr.shape[0]} pixels"),
        Tile(restored, "edgegrain", f"{len(payload):,} bytes"),
        *(Tile(image, label, text or f"does not fit in {len(payload):,} bytes")
          for label, (image, text) in classical.items()),
    ])
    out.mkdir(parents=True, exist_ok=True)
    payload.save(files[0], force=force)
    for path, image in zip(files[1:], (original, lr, restored, sheet), strict=True):
        write_atomically(path, _png(image), force=force)
    return {
        "picture": picture, "width": original.width, "height": original.height, "picture_bytes": picture_bytes,
        "bytes": len(payload), "file_ratio": picture_bytes / len(payload), "pixel_ratio": rgb.size / len(payload),
        "bundle": codec.bundle.id, "compress_seconds": compressed - start, "restore_seconds": done - compressed,
        "classical": {label: text for label, (_, text) in classical.items()}, "files": files}


def _classical(rgb: np.ndarray, codec: str, max_bytes: int) -> tuple[Image.Image | None, str | None]:
    """The best picture a classical codec makes of ``max_bytes`` and what it is; (None, reason or None) without one."""
    try:
        result = best_at(rgb, codec, max_bytes)
    except EdgegrainError as error:  # this Pillow was built without the codec
        return None, str(error)
    return (None, None) if result is None else (Image.fromarray(result.rgb), result.description)


def _png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()
