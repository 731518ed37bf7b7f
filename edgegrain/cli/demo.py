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
    max_pixels_of,
)
from edgegrain.cli.output import print_json, times_less


def demo(
    picture: Annotated[
        Path | None, typer.Argument(exists=True, dir_okay=False, help="A portrait [default: the one in the package].")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the pictures.")] = Path("demo_out"),
    bundle: BundleOption = "faces",
    max_megapixels: MaxMegapixelsOption = None,
    mark: MarkOption = True,
    force: ForceOption = False,
    json_output: JsonOption = False,
) -> None:
    """Compress and restore a portrait.

    The result is compared with JPEG, WebP and AVIF at equal bytes. Writes the payload, original.png, lr_enlarged.png,
    restored.png and side_by_side.png.

    \b
    Examples:
      edgegrain demo
      edgegrain demo me.jpg --out me_demo
    """
    from edgegrain.cli.demonstration import run_demo, shipped_portrait

    row = run_demo(picture or shipped_portrait(), out, bundle, max_pixels_of(max_megapixels), mark, force)
    if json_output:
        print_json(row)
        return
    typer.echo(f"{row['picture']}: {row['width']} x {row['height']} pixels, {row['picture_bytes']:,} bytes")
    typer.echo(f"compressed to {row['bytes']:,} bytes: {times_less(row['file_ratio'])} the file, "
               f"{times_less(row['pixel_ratio'])} its pixels ({1000 * row['compress_seconds']:.0f} ms)")
    typer.echo(f"restored by bundle {row['bundle']} ({1000 * row['restore_seconds']:.0f} ms)")
    for name, description in row["classical"].items():
        typer.echo(f"  compared with: {description or name + ', which does not fit in as few bytes'}")
    typer.echo(f"pictures in {out}: {', '.join(path.name for path in row['files'])}")
