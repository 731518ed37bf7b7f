"""Draw the effect of the strength on a restored picture ([GCFSR] Fig. 1 and 7), and measure how smooth it is.

    python benchmarks/quality/strengths.py --bundle bundles/gcfsr-faces-256-lr16 --picture me.jpg --out sheet.png

One LR is restored with every strength. Distances are mean differences in levels, or LPIPS (Alex) with --weights.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[2])  # run as a script: import from the checkout

import sdk
from codec_contract.errors import ExistsError, ImageError
from codec_contract.rgb import Rgb
from edgegrain.cli.output import errors_to_exit_codes
from edgegrain.metrics.lpips import LPIPS
from edgegrain.metrics.picture_metrics import unit_batch
from edgegrain.metrics.psnr_ssim import psnr
from edgegrain.pictures.sheets import Tile, draw_sheet, write_sheet
from edgegrain.pictures.stored_pictures import original_of

STRENGTHS = (4.0, 8.0, 16.0, 24.0, 32.0, 48.0, 64.0)
SIDE = 256
"""Side of a picture on the sheet, in pixels."""
USUAL = ",".join(f"{strength:g}" for strength in STRENGTHS)

Distance = Callable[[Rgb, Rgb], float]


@dataclass(frozen=True)
class Smoothness:
    """Distances between the pictures of neighbouring strengths.

    Attributes:
        strengths: ascending.
        steps: distance between the pictures of neighbouring strengths, one fewer.
        ends: distance between the first and the last picture.
    """

    strengths: tuple[float, ...]
    steps: tuple[float, ...]
    ends: float

    @property
    def smooth(self) -> bool:
        """True if every step is smaller than the distance between the ends."""
        return max(self.steps) < self.ends


def sweep(codec: sdk.Codec, lr: Rgb, strengths: Sequence[float] = STRENGTHS) -> list[Rgb]:
    """Restore an LR, uint8 ``[lr, lr, 3]``, with every strength: uint8 ``[hr, hr, 3]`` each."""
    return [np.asarray(picture) for picture in codec.restore_batch([lr] * len(strengths), strength=list(strengths))]


def measure_smoothness(
    pictures: Sequence[Rgb], strengths: Sequence[float], distance: Distance | None = None
) -> Smoothness:
    """Compare the pictures of ascending strengths.

    Args:
        pictures: uint8 ``[S, S, 3]``, two at least.
        strengths: of the pictures.
        distance: of two pictures; None for `level_distance`.
    """
    if len(pictures) != len(strengths) or len(pictures) < 2 or list(strengths) != sorted(set(strengths)):
        raise ImageError(f"a sweep needs at least two strengths, ascending, and a picture for each; got "
                         f"{list(strengths)} and {len(pictures)} pictures")
    distance = distance or level_distance
    steps = tuple(distance(one, other) for one, other in zip(pictures, pictures[1:], strict=False))
    return Smoothness(tuple(strengths), steps, distance(pictures[0], pictures[-1]))


def level_distance(one: Rgb, other: Rgb) -> float:
    """Mean absolute difference in levels."""
    return float(np.abs(one.astype(np.int16) - other).mean())


def lpips_distance(weights: Path) -> Distance:
    """LPIPS (Alex) with the weights of a folder."""
    lpips = LPIPS(weights)
    return lambda one, other: float(lpips(unit_batch(one), unit_batch(other)).item())


@errors_to_exit_codes()
def main(
    bundle: Annotated[str, typer.Option(help="Id, alias or folder of a bundle with the control strength.")],
    picture: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="An aligned face; its centre square is "
                                          "used.")],
    out: Annotated[Path, typer.Option(help="PNG file to write.")],
    strengths: Annotated[str, typer.Option(help="Ascending, comma-separated.")] = USUAL,
    weights: Annotated[Path | None, typer.Option(
        exists=True, file_okay=False, help="Folder of the metric weights: distances are LPIPS.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file.")] = False,
) -> None:
    """Draw one picture restored with every strength, and print the distances between the results (JSON)."""
    if out.exists() and not force:
        raise ExistsError(out)
    chosen = _numbers(strengths)
    codec = sdk.Codec(bundle)
    original = original_of(picture, codec.bundle.hr)
    payload = codec.compress(original, align=False)
    restored = sweep(codec, payload.lr, chosen)
    distance, name = (level_distance, "levels") if weights is None else (lpips_distance(weights), "LPIPS")
    found = measure_smoothness(restored, chosen, distance)
    tiles = [Tile(original), Tile(payload.lr, f"{len(payload)} bytes")]
    for step, image in zip((None, *found.steps), restored, strict=True):
        apart = "" if step is None else f"  {step:.3g} {name} from the previous"
        tiles.append(Tile(image, f"{distance(image, original):.3g} {name}",
                          f"{psnr(image, original):.2f} dB{apart}", accent=True))
    titles = ["original", "LR", *(f"s = {strength:g}" for strength in chosen)]
    sheet = draw_sheet([tiles], titles=titles, heading=f"{codec.bundle.id}: distance from the original by strength",
                       side=SIDE)
    write_sheet(sheet, out, force=force)
    typer.echo(json.dumps({"bundle": codec.bundle.id, "distance": name, **asdict(found), "smooth": found.smooth,
                           "from_original": [distance(image, original) for image in restored]}, indent=2))
    typer.echo(f"written: {out}", err=True)


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"--strengths is a comma-separated list of numbers, got {text!r}") from None


if __name__ == "__main__":
    typer.run(main)
