"""Draw the README's picture: a portrait, its LR, what is restored, and classical codecs in at most as many bytes.

    python benchmarks/quality/side_by_side.py --out docs/images/side_by_side.jpg
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[2])  # run as a script: import from the checkout

from codec_contract.bundle.paths import DEFAULT_BUNDLE
from edgegrain.cli.exit_codes import errors_to_exit_codes
from edgegrain.evaluation.classical_codecs import CODECS, best_at
from edgegrain.evaluation.evaluator import original_of
from edgegrain.pictures.sheets import Tile, draw_sheet
from sdk import Codec

PORTRAIT = Path(__file__).resolve().parents[2] / "edgegrain" / "demo" / "portrait.jpg"
SIDE, QUALITY = 192, 90


@errors_to_exit_codes()
def main(
    out: Annotated[Path, typer.Option(help="JPEG file to write.")],
    picture: Annotated[Path, typer.Option(exists=True, dir_okay=False)] = PORTRAIT,
    bundle: Annotated[str, typer.Option(help="Bundle, by name or folder.")] = DEFAULT_BUNDLE,
) -> None:
    """Draw a portrait as every codec has it, by the PSNR that is best in the payload's bytes."""
    codec = Codec(bundle)
    original = original_of(picture, codec.bundle.hr)
    payload = codec.compress(original)
    tiles = {"original": Tile(original, f"{original.nbytes:,} bytes"),
             "LR": Tile(payload.lr, f"{len(payload)} bytes"),
             "restored": Tile(np.asarray(codec.restore(payload)), f"{len(payload)} bytes", accent=True)}
    for name, title in CODECS.items():
        best = best_at(original, name, len(payload))
        if best is not None:
            tiles[title] = Tile(best.rgb, f"{best.nbytes} bytes")
    sheet = draw_sheet([list(tiles.values())], titles=list(tiles), heading=f"At most {len(payload)} bytes", side=SIDE)
    sheet.save(out, quality=QUALITY)


if __name__ == "__main__":
    typer.run(main)
