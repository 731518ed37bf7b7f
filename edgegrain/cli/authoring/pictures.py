"""``edgegrain pictures``: store training pictures for the trainers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from codec_contract.errors import EdgegrainError, ExistsError, ImageError, needs_extra
from codec_contract.exact_square import cut_square
from codec_contract.files import printable_name, written_whole
from edgegrain.cli.options import Documented, ForceOption, JsonOption
from edgegrain.cli.output import progress_bar, report, say
from edgegrain.pictures import MAX_SIDES

pictures = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Store training pictures for edgegrain train.")


pictures.callback()(lambda: None)  # keeps ``pack`` a subcommand


@pictures.command(cls=Documented)
def pack(
    source: Annotated[Path, typer.Argument(metavar="IN", exists=True, file_okay=False)],
    out: Annotated[Path, typer.Argument(metavar="OUT", file_okay=False)],
    side: Annotated[int, typer.Option(min=16, max=MAX_SIDES["webp"])] = 256,
    quality: Annotated[int, typer.Option(min=0, max=100)] = 92,
    lossless: Annotated[bool, typer.Option("--lossless")] = False,
    align: Annotated[bool, typer.Option("--align")] = False,
    exclude: list[str] | None = None,
    force: ForceOption = False,
    json_output: JsonOption = False,
) -> None:
    """Store pictures as squares of one size.

    The centre square of every picture is resized as in training and stored as WebP. With --align, pictures without a
    face, and those whose face would have to be enlarged, are left out.

    \b
    Examples:
      edgegrain pictures pack faces/ small/ --side 256
      edgegrain pictures pack photos/ faces/ --align
      edgegrain pictures pack faces/ small/ --lossless --exclude 'usgov_*'

    Args:
        source: Folder of pictures.
        out: Folder for the stored pictures.
        side: Side of the stored squares, in pixels.
        quality: WebP quality.
        lossless: Lossless WebP: about ten times the size.
        align: Store the largest face of every picture, cut out as in FFHQ, not the centre square.
        exclude: Name pattern of pictures to leave out, e.g. 'usgov_*'; repeatable.
    """
    with needs_extra("train", "packing pictures needs"):
        from PIL import Image

        from edge_encoder.faces.alignment import ffhq_square
        from edge_encoder.preprocessing import load_picture
        from edgegrain.pictures.stored_pictures import list_pictures, open_picture, read_square
        from sdk.faces import finder

    paths = list_pictures(source, tuple(exclude or ()))
    if not force and (existing := sorted(out.glob("*.webp"))):
        raise ExistsError(existing[0], "choose another folder, or pass --force to replace pictures of equal names")
    out.mkdir(parents=True, exist_ok=True)
    stems, written, nbytes = Counter(path.stem for path in paths), 0, 0
    left_out: dict[str, list[str]] = {"without_face": [], "too_small": []}
    with progress_bar() as show:
        for index, path in enumerate(paths, 1):
            show(index / len(paths), f"{index:,} pictures")
            if align:
                with open_picture(path) as image:
                    rgb = load_picture(image)
                try:
                    square = next(ffhq_square(face.points, (rgb.shape[1], rgb.shape[0])) for face in finder().find(rgb))
                except (StopIteration, ImageError):
                    left_out["without_face"].append(printable_name(path.name))
                    continue
                if square.side < side:  # it would teach a decoder to blur
                    left_out["too_small"].append(printable_name(path.name))
                    continue
            stored = Image.fromarray(cut_square(rgb, square, side) if align else read_square(path, side))
            target = out / f"{path.stem if stems[path.stem] == 1 else path.name}.webp"
            with written_whole(target) as temporary:
                stored.save(temporary, "WEBP", method=4, lossless=lossless, quality=75 if lossless else quality)
            written, nbytes = written + 1, nbytes + target.stat().st_size
    if any(left_out.values()):
        without_face, too_small = map(len, left_out.values())
        words = f"left out {without_face} pictures without a face, and {too_small} whose face has a square of fewer"
        say(f"{words} than {side} pixels; --json lists them", err=True)
    if not written:
        raise EdgegrainError(f"all {len(paths)} pictures were left out; nothing was written")
    result = {"folder": out, "pictures": written, "bytes": nbytes, **left_out}
    report(result, f"{written:,} pictures, {nbytes / 1e6:.1f} MB, in {out}", as_json=json_output)
