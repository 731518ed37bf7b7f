"""Draw the effect of the strength on a restored picture ([GCFSR] Fig. 1 and 7).

    python benchmarks/quality/strengths.py --bundle bundles/gcfsr-faces-256-lr16 --picture me.jpg --out sheet.png

One LR is restored with every strength; distances are mean differences in levels.
"""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[2])  # run as a script: import from the checkout

import sdk
from codec_contract.errors import ExistsError
from codec_contract.pixels import Rgb
from edgegrain.cli.output import errors_to_exit_codes
from edgegrain.metrics.psnr_ssim import psnr
from edgegrain.pictures.sheets import Tile, draw_sheet, write_sheet
from edgegrain.pictures.stored_pictures import original_of

STRENGTHS = (4.0, 8.0, 16.0, 24.0, 32.0, 48.0, 64.0)
SIDE = 256
"""Side of a picture on the sheet, in pixels."""


def level_distance(one: Rgb, other: Rgb) -> float:
    """Mean absolute difference in levels."""
    return float(np.abs(one.astype(np.int16) - other).mean())


@errors_to_exit_codes()
def main(
    bundle: Annotated[str, typer.Option(help="Id, alias or folder of a bundle with the control strength.")],
    picture: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="An aligned face; its centre square is "
                                          "used.")],
    out: Annotated[Path, typer.Option(help="PNG file to write.")],
    force: Annotated[bool, typer.Option("--force", help="Replace the file.")] = False,
) -> None:
    """Draw one picture restored with every strength."""
    if out.exists() and not force:
        raise ExistsError(out)
    codec = sdk.Codec(bundle)
    original = original_of(picture, codec.bundle.hr)
    payload = codec.compress(original, align=False)
    restored = [np.asarray(each) for each in codec.restore_batch([payload] * len(STRENGTHS), strength=list(STRENGTHS))]
    steps = ["", *(f"  {level_distance(one, other):.3g} levels from the previous" for one, other in pairwise(restored))]
    tiles = [Tile(original), Tile(payload.lr, f"{len(payload)} bytes"), *(
        Tile(image, f"{level_distance(image, original):.3g} levels", f"{psnr(image, original):.2f} dB{step}",
             accent=True)
        for step, image in zip(steps, restored, strict=True))]
    titles = ["original", "LR", *(f"s = {strength:g}" for strength in STRENGTHS)]
    sheet = draw_sheet([tiles], titles=titles, heading=f"{codec.bundle.id}: distance from the original by strength",
                       side=SIDE)
    write_sheet(sheet, out, force=force)


if __name__ == "__main__":
    typer.run(main)
