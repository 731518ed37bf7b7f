"""``edgegrain retouch``: turn a crude edit of a face into a realistic one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgegrain.cli.files import RETOUCHED_SUFFIX, STDOUT, existing_file, plan_jobs, refuse_sources
from edgegrain.cli.options import (
    BundleOption,
    DeviceChoice,
    DeviceOption,
    FitChoice,
    ForceOption,
    JsonOption,
    MarkOption,
    MaxMegapixelsOption,
    max_pixels_of,
)
from edgegrain.cli.output import print_json
from edgegrain.cli.restore import restore_file


def retouch(
    edited: Annotated[Path, typer.Argument(parser=existing_file, help="The edited picture, or an edited LR; - for "
                                           "standard input.")],
    original: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="The picture before the edit; its unedited parts "
                                  "are kept.")
    ] = None,
    out: Annotated[
        str | None, typer.Option("--out", "-o", metavar="PATH", help="The picture to write, or a folder; - for "
                                 "standard output [default: NAME.retouched.png; of standard input, -].")
    ] = None,
    bundle: BundleOption = "faces",
    fit: Annotated[FitChoice, typer.Option(help="As for 'compress'.")] = FitChoice.pad,
    feather: Annotated[
        float | None, typer.Option(min=0, max=1000, help="Pixels over which the restored region fades into the "
                                   "original [default: a 64th of the longest side].")
    ] = None,
    threshold: Annotated[
        int, typer.Option(min=1, max=255, help="Smallest difference in levels of an edited pixel.")
    ] = 16,
    strength: Annotated[float | None, typer.Option(help="For bundles with that control.")] = None,
    max_megapixels: MaxMegapixelsOption = None,
    device: DeviceOption = DeviceChoice.cpu,
    mark: MarkOption = True,
    force: ForceOption = False,
    json_output: JsonOption = False,
) -> None:
    """Turn a crude edit of a face into a realistic one by reducing and restoring the picture.

    The face should fill the square as in the bundle's training pictures. You can also edit the LR of a payload
    (compress --lr), with the --fit of that compression.

    \b
    Examples:
      edgegrain retouch edited.png --original me.png --bundle bundles/glean-faces-256-lr16
      edgegrain retouch edited.png                   restores the whole picture
      edgegrain retouch me.lr.png --original me.png --out smiling.png
    """
    import sdk

    (job,) = plan_jobs([edited], out, wanted=frozenset(), result_suffix=RETOUCHED_SUFFIX)
    if original is not None:
        refuse_sources([job.target], [original])
    codec = sdk.Codec(bundle, device.value)
    row = restore_file(job, lambda source: sdk.retouch(
        codec, source, original, fit=fit.value, feather=feather, threshold=threshold, strength=strength,
        max_pixels=max_pixels_of(max_megapixels), mark=mark), force)
    row = {"edited": row["payload"], "picture": row["picture"], "width": row["width"], "height": row["height"]}
    piped = job.target == STDOUT
    if json_output:
        print_json(row, err=piped)
    else:
        typer.echo(f"{row['edited']} -> {row['picture']}: {row['width']} x {row['height']} pixels", err=piped)
