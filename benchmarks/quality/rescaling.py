"""Compare a bundle that rescales photographs with bicubic rescaling and with classical codecs at equal bytes.

    python benchmarks/quality/rescaling.py --bundle photos-x4 --data KODAK --weights METRICS --out kodak.json \
        --write docs/codecs.md

Whole pictures are measured in RGB, and in the usual protocol of the literature: the Y channel of BT.601 without a
border as wide as the factor ([IRN], Table 1, and the methods in it). The bytes of every method are counted: the bicubic
LR is sent in the same payload as the bundle's. Results are cached.
"""

import datetime
import json
import math
import platform
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
import typer
from PIL import Image

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[2])  # run as a script: import from the checkout

from benchmarks.speed.measurement import page_section, write_section
from codec_contract.bundle.manifest import load_manifest
from codec_contract.errors import EdgegrainError, ExistsError
from codec_contract.files import write_atomically
from codec_contract.payload import encode_payload
from codec_contract.pixels import Rgb
from edge_encoder.preprocessing import load_picture
from edgegrain.cli.output import errors_to_exit_codes, with_progress
from edgegrain.evaluation.classical_codecs import CODECS, ClassicalCodec, library_versions
from edgegrain.evaluation.results import described_pictures, rounded
from edgegrain.metrics.lpips import LPIPS
from edgegrain.metrics.picture_metrics import unit_batch
from edgegrain.metrics.pixel_scores import psnr, ssim
from edgegrain.pictures.stored_pictures import list_pictures
from sdk import BundleInfo, Codec
from sdk.payload import coder_tables
from sdk.tiles import pad_to

CLASSICAL = ("webp", "avif", "jpeg-xl")


@dataclass(frozen=True)
class RescalingScores:
    """One method on one picture: bytes of the whole payload or file; RGB of the whole picture; Y without the border."""

    nbytes: int
    psnr: float
    ssim: float
    psnr_y: float
    ssim_y: float
    lpips_alex: float | None


@dataclass(frozen=True)
class PictureRow:
    """A picture's scores by method, and mean differences in levels: of pictures restored with other seeds of z,
    and of the LR and the bicubic one."""

    picture: str
    scores: Mapping[str, RescalingScores]
    z_difference: float
    lr_difference: float


def luma(rgb: Rgb) -> npt.NDArray[np.float64]:
    """Y of BT.601, 16...235 and not rounded, as in MATLAB's rgb2ycbcr, which the literature uses: ``[H, W, 1]``."""
    return rgb.astype(np.float64) @ np.array([[65.481], [128.553], [24.966]]) / 255 + 16


def luma_psnr(picture: Rgb, target: Rgb, border: int) -> float:
    """PSNR in dB of the Y channel without ``border`` pixels on each side; inf if equal."""
    error = float(np.mean((_inner(luma(picture), border) - _inner(luma(target), border)) ** 2))
    return float("inf") if error == 0 else 10 * math.log10(255**2 / error)


def luma_ssim(picture: Rgb, target: Rgb, border: int) -> float:
    """SSIM of the Y channel without ``border`` pixels on each side."""
    return ssim(_inner(luma(picture), border), _inner(luma(target), border))


def bicubic_pair(rgb: Rgb, factor: int) -> tuple[Rgb, Rgb]:
    """The bicubic LR of a picture and its bicubic enlargement; sides are first padded to multiples of the factor."""
    height, width = rgb.shape[:2]
    small = -(-width // factor), -(-height // factor)
    padded = Image.fromarray(pad_to(rgb, small[0] * factor, small[1] * factor))
    lr = padded.resize(small, Image.Resampling.BICUBIC)
    restored = np.asarray(lr.resize(padded.size, Image.Resampling.BICUBIC))
    return np.asarray(lr), restored[:height, :width]


class Rescaling:
    """Measures a rescaling bundle, one call of `picture` per picture."""

    def __init__(self, codec: Codec, lpips: LPIPS | None, classical: Sequence[str] = CLASSICAL) -> None:
        self._manifest = load_manifest(codec.bundle.folder)
        if self._manifest.tile_overlap is None:
            raise EdgegrainError(f"bundle {codec.bundle.id} takes square pictures; use 'edgegrain evaluate'")
        self._codec, self._lpips, self._classical = codec, lpips, classical
        self._tables = coder_tables(self._manifest)

    def picture(self, rgb: Rgb, name: str = "") -> PictureRow:
        """Measure one picture, uint8 ``[H, W, 3]``."""
        payload, (lr, bicubic) = self._codec.compress(rgb, align=False), bicubic_pair(rgb, self._manifest.factor)
        contract_id, size = self._manifest.lr_contract_id, (rgb.shape[1], rgb.shape[0])
        body = encode_payload(lr, contract_id=contract_id, tables=self._tables, original_size=size)
        drawn = [np.asarray(self._codec.restore(payload, seed=seed)) for seed in (1, 2)]
        restored = {
            "IRN": (np.asarray(self._codec.restore(payload)), len(payload)),
            "IRN, random z": (drawn[0], len(payload)),
            "bicubic / bicubic": (bicubic, len(body)),
        }
        for codec in self._classical:
            if (best := ClassicalCodec(rgb, codec).best(len(payload))) is not None:
                restored[CODECS[codec]] = best.rgb, best.nbytes
        scores = {method: self._scores(picture, rgb, nbytes) for method, (picture, nbytes) in restored.items()}
        differences = [np.abs(a.astype(np.int16) - b).mean() for a, b in (drawn, (lr, payload.lr))]
        return PictureRow(name, scores, *(round(float(difference), 4) for difference in differences))

    @torch.inference_mode()
    def _scores(self, picture: Rgb, rgb: Rgb, nbytes: int) -> RescalingScores:
        factor = self._manifest.factor
        of_luma = luma_psnr(picture, rgb, factor), luma_ssim(picture, rgb, factor)
        lpips = None if self._lpips is None else self._lpips(unit_batch(picture), unit_batch(rgb)).item()
        return RescalingScores(nbytes, psnr(picture, rgb), ssim(picture, rgb), *of_luma, lpips)


def mean_rows(rows: Sequence[PictureRow]) -> dict[str, dict[str, float | None]]:
    """Method -> mean of every score over the pictures that have it, and their number; None if none has it."""
    result: dict[str, dict[str, float | None]] = {}
    for method in dict.fromkeys(method for row in rows for method in row.scores):
        own = [asdict(row.scores[method]) for row in rows if method in row.scores]
        result[method] = {"pictures": float(len(own))} | {name: _mean([each[name] for each in own]) for name in own[0]}
    return result


def summary(bundle: BundleInfo, rows: Sequence[PictureRow], pictures: Sequence[Path]) -> dict[str, Any]:
    """Means and all results, with pictures and versions; plain JSON data, with None for an infinite PSNR."""
    result = {
        "bundle": bundle.id,
        "version": bundle.version,
        "lr_contract_id": bundle.lr_contract_id,
        "date": datetime.date.today().isoformat(),
        "machine": platform.machine(),
        "versions": library_versions(),
        "picture_set": described_pictures(pictures),
        "means": mean_rows(rows),
        "z_difference": _mean([row.z_difference for row in rows]),
        "lr_difference": _mean([row.lr_difference for row in rows]),
        "pictures": [asdict(row) for row in rows],
    }
    return rounded(result)


def section(result: Mapping[str, Any], folder: str, command: str) -> list[str]:
    """Markdown lines: the table, and the command that wrote it."""
    return [
        *markdown(result["means"]).splitlines(),
        "",
        f"{folder}, {len(result['pictures'])} pictures, measured {result['date']}. On average, the LR differs from "
        f"the bicubic one by {result['lr_difference']:.1f} levels,",
        f"and another random z changes the picture by {result['z_difference']:.2f}:",
        "",
        "<!-- not run: needs your pictures -->",
        "```sh",
        command,
        "```",
    ]


def markdown(means: Mapping[str, Mapping[str, Any]]) -> str:
    """The means as a Markdown table."""
    lines = [
        "| | bytes | PSNR-Y (dB) | SSIM-Y | PSNR (dB) | SSIM | LPIPS-Alex |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for method, own in means.items():
        decibels = {y: "∞" if own[f"psnr{y}"] is None else f"{own[f'psnr{y}']:.2f}" for y in ("_y", "")}
        of_luma, of_rgb = (f"{decibels[y]} | {own[f'ssim{y}']:.4f}" for y in ("_y", ""))
        lpips = "–" if own["lpips_alex"] is None else f"{own['lpips_alex']:.4f}"
        lines.append(f"| {method} | {own['nbytes']:,.0f} | {of_luma} | {of_rgb} | {lpips} |")
    return "\n".join(lines)


@errors_to_exit_codes()
def main(
    bundle: Annotated[str, typer.Option(help="Name or folder of the bundle.")],
    data: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Pictures the bundle was not trained on.")],
    weights: Annotated[Path | None, typer.Option(exists=True, help="Folder of the metric weights, for LPIPS.")] = None,
    out: Annotated[Path | None, typer.Option(help="JSON file of all results.")] = None,
    write: Annotated[Path | None, typer.Option(exists=True, help="Page: section 'rescaling FOLDER'.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file.")] = False,
) -> None:
    """Compare a bundle of photographs with bicubic rescaling and with classical codecs at equal bytes."""
    folder = data.resolve().name
    name = f"rescaling {folder}"
    if out is not None and out.exists() and not force:
        raise ExistsError(out)
    if write is not None:
        page_section(write, name)
    codec = Codec(bundle)
    rescaling = Rescaling(codec, None if weights is None else LPIPS(weights, "alex"))
    paths = list_pictures(data)
    rows = [rescaling.picture(load_picture(path), path.name) for path in with_progress(paths, "measuring")]
    result = summary(codec.bundle, rows, paths)
    if out is not None:
        write_atomically(out, (json.dumps(result, indent=1, allow_nan=False) + "\n").encode(), force=force)
    if write is not None:
        options = " --weights METRICS" * (weights is not None)
        saved = "" if out is None else f" --out {out.as_posix()} --force"
        command = (
            f"python benchmarks/quality/rescaling.py --bundle {codec.bundle.id} --data {folder.upper()}{options} \\\n"
            f"    --write docs/codecs.md{saved}"
        )
        write_section(write, section(result, folder.capitalize(), command), name)
    typer.echo(markdown(result["means"]))


def _mean(values: Sequence[float | None]) -> float | None:
    measured = [value for value in values if value is not None]
    return round(statistics.fmean(measured), 4) if measured else None


def _inner(values: npt.NDArray[np.float64], border: int) -> npt.NDArray[np.float64]:
    return values[border : values.shape[0] - border, border : values.shape[1] - border]


if __name__ == "__main__":
    typer.run(main)
