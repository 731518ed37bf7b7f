"""Score pictures of 1024x1024 that are enlarged from different pictures of 256x256: restored ones and true ones.

    python benchmarks/quality/enlarger_inputs.py --bundles faces,bundles/faces-256-lr64 --data FACES_1024

Every bundle restores the picture at its own size, and its enlarger and a bicubic filter enlarge that. The same is done
with the true picture, the box mean of the original: no decoder can give more. The last method is the simplest one of
[GRAIN] Table 1, bilinear rescaling to 16x16 and back; next to the paper's figure it tells how hard the pictures are.
Prints a Markdown table, the best first, with the spectrum's peaks of periods 2 and 4: their heights above the
original's, and the amplitudes of the strongest waves, which for the original are those of its texture.
"""

from __future__ import annotations

import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[2])  # run as a script: import from the checkout

from codec_contract.bundle.manifest import load_manifest
from codec_contract.bundle.paths import find_bundle
from codec_contract.errors import EdgegrainError
from codec_contract.rgb import Rgb
from edgegrain.cli.output import errors_to_exit_codes, progress_bar
from edgegrain.metrics.lpips import LPIPS
from edgegrain.metrics.periodic_peaks import added_peaks, peak_amplitudes, periodic_peaks
from edgegrain.metrics.picture_metrics import unit_batch
from edgegrain.metrics.psnr_ssim import psnr
from edgegrain.metrics.weights import find_metric_weights
from edgegrain.pictures.stored_pictures import list_pictures, original_of
from sdk import Codec
from server_decoder.super_resolution.enlarger_session import EnlargerSession

PERIODS = (2, 4)
"""Periods of the spectral peaks in the table, in pixels."""
SMALLEST = 16
"""Side of the LR of the bilinear row ([GRAIN] Table 1)."""
BILINEAR = f"original: bilinear from {SMALLEST}×{SMALLEST}"
ORIGINAL = "original"


class Enlarged:
    """Restores and enlarges the pictures of one bundle, which has an enlarger.

    Attributes:
        title: the bundle's id.
        side: of the enlarged pictures.
    """

    def __init__(self, bundle: str) -> None:
        folder = find_bundle(bundle)
        manifest = load_manifest(folder)
        if manifest.enlarger is None:
            raise EdgegrainError(f"{bundle} has no enlarger; 'edgegrain export enlarger faces --into {bundle}' copies "
                                 "the default bundle's")
        self.title, self.side, self._small = manifest.id, manifest.sides[-1], manifest.hr
        self._codec = Codec(folder)
        self._enlarger = EnlargerSession([manifest.open_file(name) for name in manifest.enlarger.files], manifest.hr)

    def pictures(self, original: Rgb) -> dict[str, Rgb]:
        """Input and method -> enlarged picture, uint8 ``[side, side, 3]``, for an original of that size."""
        restored = self._codec.restore(self._codec.compress(original, align=False), size="native")
        true = Image.fromarray(original).reduce(self.side // self._small)
        return {
            f"{self.title}: enlarger": self._enlarge(restored), f"{self.title}: bicubic": self._bicubic(restored),
            f"original: enlarger of {self.title}": self._enlarge(true), "original: bicubic": self._bicubic(true)}

    def _enlarge(self, small: Image.Image) -> Rgb:
        return self._enlarger.enlarge(np.asarray(small)[None], self.side // self._small)[0]

    def _bicubic(self, small: Image.Image) -> Rgb:
        return _resized(small, self.side, Image.Resampling.BICUBIC)


def bilinear(original: Rgb) -> Rgb:
    """A square picture after bilinear rescaling to `SMALLEST` and back."""
    small = Image.fromarray(original).resize((SMALLEST, SMALLEST), Image.Resampling.BILINEAR)
    return _resized(small, len(original), Image.Resampling.BILINEAR)


@errors_to_exit_codes()
def main(
    data: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Folder of pictures at least as large as the "
                                       "enlarged ones.")],
    bundles: Annotated[str, typer.Option(help="Bundles with an enlarger, names or folders, comma-separated.")
                       ] = "faces",
    weights: Annotated[Path | None, typer.Option(exists=True, file_okay=False, help="Folder of the metrics' weights "
                                                 "[default: those of 'edgegrain metrics fetch'].")] = None,
) -> None:
    """Score enlarged pictures by what they are enlarged from."""
    lpips = LPIPS(find_metric_weights(weights, faces=False))
    enlarged = [Enlarged(name) for name in bundles.split(",")]
    if len(sides := {one.side for one in enlarged}) > 1:
        raise EdgegrainError(f"the bundles enlarge to {' and '.join(map(str, sorted(sides)))} pixels; compare bundles "
                             "of one size")
    side = enlarged[0].side
    paths = list_pictures(data)
    rows: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    with progress_bar() as report:
        for index, path in enumerate(paths):
            report(index / len(paths), path.name)
            original = original_of(path, side)
            peaks = periodic_peaks(original)
            found = {BILINEAR: bilinear(original), ORIGINAL: original}
            for one in enlarged:
                found |= one.pictures(original)
            for title, picture in found.items():
                distance = float(lpips(unit_batch(picture), unit_batch(original)))
                added, amplitudes = added_peaks(picture, peaks), peak_amplitudes(picture)
                rows[title].append((psnr(picture, original), distance, *(added[period] for period in PERIODS),
                                    *(amplitudes[period] for period in PERIODS)))
    typer.echo("| | PSNR (dB) | LPIPS-Alex | peaks of 2, 4 (dB) | their amplitudes (levels) |\n"
               "|---|---:|---:|---:|---:|")
    for title, scores in sorted(rows.items(), key=lambda row: statistics.fmean(score[1] for score in row[1])):
        means = [statistics.fmean(column) for column in zip(*scores, strict=True)]
        quality = f"{means[0]:.2f} | {means[1]:.3f}".replace("| 0.", "| .")
        typer.echo(f"| {title} | {quality} | {means[2]:.1f}, {means[3]:.1f} | {means[4]:.3f}, {means[5]:.3f} |")


def _resized(picture: Image.Image, side: int, filter_: Image.Resampling) -> Rgb:
    return np.asarray(picture.resize((side, side), filter_))


if __name__ == "__main__":
    typer.run(main)
