"""``edgegrain pictures``: store training pictures for the trainers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from codec_contract.extras import needs_extra
from edgegrain.cli.options import ForceOption, JsonOption
from edgegrain.cli.output import print_json, progress_bar
from edgegrain.pictures.file_formats import MAX_SIDES

_HELP = """Store training pictures for edgegrain train.

\b
Examples:
  edgegrain pictures pack faces/ shards/ --side 256 --limit-mb 15
  edgegrain train faces-256-lr16 --data shards/
"""

pictures = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help=_HELP)


@pictures.callback()
def _group() -> None:
    """A callback keeps ``pack`` a subcommand."""


@pictures.command()
def pack(
    source: Annotated[
        Path, typer.Argument(metavar="IN", exists=True, file_okay=False, help="Folder of pictures, or of shards.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", file_okay=False, help="Folder for the shards.")],
    side: Annotated[
        int, typer.Option(min=16, max=MAX_SIDES["webp"], help="Side of the stored squares, in pixels.")
    ] = 256,
    limit_mb: Annotated[float, typer.Option(min=0.1, help="Largest shard, in megabytes.")] = 100.0,
    quality: Annotated[int, typer.Option(min=0, max=100, help="WebP quality.")] = 92,
    lossless: Annotated[bool, typer.Option("--lossless", help="Lossless WebP: about ten times the size.")] = False,
    exclude: Annotated[
        list[str] | None, typer.Option(help="Name pattern of pictures to leave out, e.g. 'usgov_*'; repeatable.")
    ] = None,
    force: ForceOption = False,
    json_output: JsonOption = False,
) -> None:
    """Store pictures as tar shards of limited size.

    The centre square of every picture is resized as in training and stored as WebP. Shards are plain tar files, as for
    WebDataset, each a random sample of all pictures; trainers read all shards of a folder.

    \b
    Examples:
      edgegrain pictures pack faces/ shards/ --side 256 --limit-mb 15
      edgegrain pictures pack faces/ shards/ --lossless --exclude 'usgov_*'
    """
    with needs_extra("train", "packing pictures needs"):
        from edgegrain.pictures.stored_pictures import stored_pictures
        from edgegrain.pictures.tar_shards import write_shards

    with progress_bar() as report:
        shards = write_shards(stored_pictures(source, tuple(exclude or ())), out, side=side,
                              limit=round(limit_mb * 1e6), quality=None if lossless else quality, force=force,
                              report=report)
    size = sum(path.stat().st_size for path in shards)
    if json_output:
        print_json({"shards": shards, "bytes": size})
        return
    typer.echo(f"{len(shards)} shards, {size / 1e6:.1f} MB, in {out}")
