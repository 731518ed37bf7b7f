"""``edgegrain pictures``: store training pictures for the trainers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from codec_contract.errors import needs_extra
from codec_contract.files import printable_name
from edgegrain.cli.options import ForceOption, JsonOption
from edgegrain.cli.output import progress_bar, report, say
from edgegrain.pictures import MAX_SIDES

pictures = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Store training pictures for edgegrain train.")


@pictures.callback()
def _group() -> None:
    """A callback keeps ``pack`` a subcommand."""


@pictures.command()
def pack(
    source: Annotated[Path, typer.Argument(
        metavar="IN", exists=True, file_okay=False, help="Folder of pictures, or of shards.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", file_okay=False, help="Folder for the shards.")],
    side: Annotated[int, typer.Option(
        min=16, max=MAX_SIDES["webp"], help="Side of the stored squares, in pixels.")] = 256,
    limit_mb: Annotated[float, typer.Option(min=0.1, help="Largest shard, in megabytes.")] = 100.0,
    quality: Annotated[int, typer.Option(min=0, max=100, help="WebP quality.")] = 92,
    lossless: Annotated[bool, typer.Option("--lossless", help="Lossless WebP: about ten times the size.")] = False,
    align: Annotated[bool, typer.Option(
        "--align", help="Store the largest face of every picture, cut out as in FFHQ, not the centre square.")] = False,
    exclude: Annotated[list[str] | None, typer.Option(
        help="Name pattern of pictures to leave out, e.g. 'usgov_*'; repeatable.")] = None,
    force: ForceOption = False,
    json_output: JsonOption = False,
) -> None:
    """Store pictures as tar shards of limited size.

    The centre square of every picture is resized as in training and stored as WebP. Shards are plain tar files, as for
    WebDataset, each a random sample of all pictures; trainers read all shards of a folder. With --align, pictures
    without a face, and those whose face would have to be enlarged, are left out.

    \b
    Examples:
      edgegrain pictures pack faces/ shards/ --side 256 --limit-mb 15
      edgegrain pictures pack photos/ shards/ --align
      edgegrain pictures pack faces/ shards/ --lossless --exclude 'usgov_*'
    """
    with needs_extra("train", "packing pictures needs"):
        from edgegrain.pictures.stored_pictures import read_square, stored_pictures
        from edgegrain.pictures.tar_shards import AlignedFaces, write_shards

    faces = AlignedFaces()
    try:
        with progress_bar() as show:
            shards = write_shards(stored_pictures(source, tuple(exclude or ())), out, side=side,
                                  limit=round(limit_mb * 1e6), quality=None if lossless else quality,
                                  read=faces if align else read_square, force=force, report=show)
    finally:  # also where none is left
        if faces.without_face or faces.too_small:
            say(f"left out {len(faces.without_face)} pictures without a face, and {len(faces.too_small)} whose face "
                f"has a square of fewer than {side} pixels; --json lists them", err=True)
    size = sum(path.stat().st_size for path in shards)
    report({"shards": shards, "bytes": size, "without_face": sorted(map(printable_name, faces.without_face)),
            "too_small": sorted(map(printable_name, faces.too_small))},
           f"{len(shards)} shards, {size / 1e6:.1f} MB, in {out}", as_json=json_output)
