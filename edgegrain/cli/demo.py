"""``edgegrain demo``: compress and restore one picture, and compare it with classical codecs at equal bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgegrain.cli.options import (
    BundleOption,
    ForceOption,
    JsonOption,
    MarkOption,
    MaxMegapixelsOption,
    max_photo_pixels_of,
)
from edgegrain.cli.output import print_json, times_less


def demo(
    picture: Annotated[
        Path | None, typer.Argument(exists=True, dir_okay=False, help="A photograph [default: the one in the package].")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the pictures.")] = Path("demo_out"),
    bundle: BundleOption = "faces",
    max_megapixels: MaxMegapixelsOption = None,
    mark: MarkOption = True,
    force: ForceOption = False,
    json_output: JsonOption = False,
) -> None:
    """Compress and restore the face of a photograph.

    The restored face is compared with JPEG, WebP and AVIF at equal bytes. Writes the payload, a scene with the whole
    photograph in at most 1500 bytes, photograph.png, face.png, lr_enlarged.png, restored.png, restored_photograph.png
    and side_by_side.png.

    \b
    Examples:
      edgegrain demo
      edgegrain demo me.jpg --out me_demo
    """
    from edgegrain.cli.demonstration import run_demo, shipped_photograph

    row = run_demo(picture or shipped_photograph(), out, bundle, max_photo_pixels_of(max_megapixels), mark, force)
    if json_output:
        print_json(row)
        return
    typer.echo(f"{row['picture']}: {row['width']} x {row['height']} pixels, {row['picture_bytes']:,} bytes")
    if row["square"] is not None:
        typer.echo(f"found a face in a square of {row['square']} pixels")
    typer.echo(f"compressed to {row['bytes']:,} bytes: {times_less(row['file_ratio'])} the file, "
               f"{times_less(row['pixel_ratio'])} its pixels ({1000 * row['compress_seconds']:.0f} ms)")
    typer.echo(f"restored by bundle {row['bundle']} ({1000 * row['restore_seconds']:.0f} ms)")
    if row["scene_bytes"] is not None:
        typer.echo(f"the whole photograph, with a blurred background: {row['scene_bytes']:,} bytes")
    for name, description in row["classical"].items():
        typer.echo(f"  compared with: {description or name + ', which does not fit in as few bytes'}")
    typer.echo(f"pictures in {out}: {', '.join(path.name for path in row['files'])}")
