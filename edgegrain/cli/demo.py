"""``edgegrain demo``: compress and restore a photograph, compare with classical codecs, write the pictures."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image, ImageDraw

import sdk
from codec_contract.exact_square import cut_square
from codec_contract.oriented_square import OrientedSquare
from codec_contract.payload import PAYLOAD_SUFFIX
from codec_contract.pixels import Rgb
from edge_encoder.preprocessing import load_picture
from edgegrain.cli import options
from edgegrain.cli.files import refuse_existing, refuse_sources
from edgegrain.cli.output import say, times_less
from sdk.generated_mark import COMPOSITE, mark_of

MAX_SIDE = 1024
"""Longest side of the picture that classical codecs encode; less only helps them at a few hundred bytes."""
SHEET_SIDE = 320
SCENE_BYTES = 1500
PICTURES = ("face", "restored", "restored_photograph", "side_by_side")
"""Names of the pictures that are written."""

SHIPPED = Path(__file__).resolve().parents[1] / "demo" / "astronaut.jpg"
"""The photograph in the package, 512x512."""
CLASSICAL = {"jpeg": "JPEG", "webp": "WebP", "avif": "AVIF"}


def demo(
    picture: Annotated[Path | None, typer.Argument(exists=True, dir_okay=False)] = None,
    out: Annotated[Path, typer.Option("--out", "-o")] = Path("demo_out"),
    bundle: options.BundleOption = "faces",
    force: options.ForceOption = False,
) -> None:
    """Compress and restore the face of a photograph.

    The restored face is compared with JPEG, WebP and AVIF at equal bytes. Writes the payload, a scene with the whole
    photograph in at most 1500 bytes, face.png, restored.png, restored_photograph.png and side_by_side.png.

    \b
    Examples:
      edgegrain demo
      edgegrain demo me.jpg --out me_demo

    Args:
        picture: A photograph [default: the one in the package].
        out: Folder for the pictures.
    """
    from edgegrain.evaluation.classical_codecs import ClassicalCodec
    from edgegrain.pictures.sheets import Tile, draw_sheet, write_sheet

    picture = picture or SHIPPED
    files = {name: out / f"{name}.png" for name in PICTURES}
    files["payload"] = out / f"{picture.stem}{PAYLOAD_SUFFIX}"
    files["scene"] = out / f"{picture.stem}.scene{PAYLOAD_SUFFIX}"
    refuse_sources(files.values(), [picture])
    refuse_existing(files.values(), force)

    codec = sdk.Codec(bundle)
    codec.warm_up()  # opens the networks, which is not timed
    start = time.perf_counter()
    payload = codec.compress(picture)
    compressed = time.perf_counter()
    square = payload.header.square
    # A face of fewer pixels than the decoder makes is shown at the decoder's size.
    small = square is not None and square.side < codec.bundle.hr
    restored = codec.restore(payload, size="native" if small else "original")
    done = time.perf_counter()
    # A framed portrait is a photograph without surroundings.
    scene = None if square is None else codec.compress_scene(picture, max_bytes=SCENE_BYTES)
    photograph = None if scene is None else codec.restore(scene)

    rgb = load_picture(picture)
    original = Image.fromarray(rgb)
    part = original if square is None else Image.fromarray(cut_square(rgb, square, min(square.side, MAX_SIDE)))
    lr = Image.fromarray(payload.lr).resize((codec.bundle.hr,) * 2, Image.Resampling.NEAREST)
    reference = part.copy()
    reference.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    picture_bytes, size = picture.stat().st_size, len(payload)
    face = np.asarray(reference)
    classical = {label: ClassicalCodec(face, name).best(size) for name, label in CLASSICAL.items()}

    photographs = [
        Tile(_outlined(original, square), "photograph", f"{picture_bytes:,} bytes as a file"),
        Tile(np.asarray(part), "face", f"{part.width} x {part.height} pixels of it"),
        Tile(np.asarray(lr), "LR in the payload, enlarged", "{1} x {0} pixels".format(*payload.lr.shape)),
        Tile(np.asarray(restored), "restored face", f"{size:,} bytes", accent=True),
    ]
    compared = []
    if photograph is not None and scene is not None:
        compared.append(Tile(np.asarray(photograph), "restored photograph", f"{len(scene):,} bytes", accent=True))
    for label, result in classical.items():
        text = result.description.partition(", ")[2] if result else f"does not fit in {size:,} bytes"
        compared.append(Tile(result.rgb if result else None, f"face, {label}", text))
    sheet = draw_sheet([photographs, compared], side=SHEET_SIDE)
    sheet = sdk.MarkedPicture(sheet, replace(mark_of(codec.bundle), source_type=COMPOSITE).xmp())
    out.mkdir(parents=True, exist_ok=True)
    payload.save(files["payload"], force=force)
    if scene is not None:
        scene.save(files["scene"], force=force)
    for name, image in zip(PICTURES, (part, restored, photograph, sheet), strict=True):
        if image is not None:
            write_sheet(image, files[name], force=force)
    lines = [f"{picture}: {original.width} x {original.height} pixels, {picture_bytes:,} bytes"]
    if square is not None:
        lines.append(f"found a face in a square of {square.side} pixels")
    lines += [
        f"compressed to {size:,} bytes: {times_less(picture_bytes / size)} the file, "
        f"{times_less(rgb.size / size)} its pixels ({1000 * (compressed - start):.0f} ms)",
        f"restored by bundle {codec.bundle.id} ({1000 * (done - compressed):.0f} ms)",
    ]
    if scene is not None:
        lines.append(f"the whole photograph, with a blurred background: {len(scene):,} bytes")
    for label, result in classical.items():
        text = result.description if result else f"{label}, which does not fit in as few bytes"
        lines.append(f"  compared with: {text}")
    say(*lines, f"pictures in {out}: {', '.join(path.name for path in files.values() if path.exists())}")


def _outlined(photograph: Image.Image, square: OrientedSquare | None) -> Rgb:
    """The photograph with the square drawn into it."""
    if square is None:
        return np.asarray(photograph)
    from edgegrain.pictures.sheets import ACCENT

    drawn = photograph.copy()
    width = max(2, max(drawn.size) // 200)
    corners = [tuple(corner) for corner in square.corners().tolist()]
    ImageDraw.Draw(drawn).line([*corners, corners[0]], fill=ACCENT, width=width, joint="curve")
    return np.asarray(drawn)
