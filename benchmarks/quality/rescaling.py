"""A bundle that rescales photographs, beside bicubic rescaling and classical codecs at the same bytes.

    python -m benchmarks.quality.rescaling --bundle photos-x4 --pictures KODAK --weights METRICS --out kodak.json \
        --write docs/codecs.md

Pictures are measured whole, in RGB, and in the field's protocol: the Y channel of BT.601, a border of as many pixels as
the factor cut off ([IRN], Table 1, and everybody it compares with). Every method's bytes are counted: the bicubic LR
travels in the same payload as ours. Pictures that were measured before come from a cache.
"""

from __future__ import annotations

import datetime
import functools
import hashlib
import json
import math
import platform
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
import typer
from PIL import Image

from benchmarks.quality.page_sections import require_section, write_section
from codec_contract.bundle.manifest import load_manifest
from codec_contract.cache_folder import cache_folder
from codec_contract.errors import EdgegrainError
from codec_contract.files import write_atomically
from codec_contract.payload import encode_payload
from codec_contract.tiling import pad_to
from edge_encoder.preprocessing import load_picture
from edgegrain.evaluation.classical_codecs import CODECS, ClassicalCodec, library_versions
from edgegrain.evaluation.evaluator import weights_id
from edgegrain.evaluation.result_cache import ResultCache
from edgegrain.metrics.lpips import LPIPS
from edgegrain.metrics.picture_metrics import unit_batch
from edgegrain.metrics.psnr_ssim import Picture, psnr, similarity, ssim
from edgegrain.pictures.packed import list_pictures
from edgegrain.training.console import errors_on_one_line, progress_bar
from sdk import Codec
from sdk.payload import coder_tables

REVISION = 1
"""Raised when the same picture would no longer give the same record."""
OURS, SEEDED, BICUBIC = "IRN", "IRN, random z", "bicubic / bicubic"
SEEDS = (1, 2)
OPPONENTS = ("webp", "avif", "jpeg-xl")
# BT.601 luma of 8-bit R, G, B, 16...235: MATLAB's rgb2ycbcr, which the field uses.
_LUMA, _LUMA_OFFSET = (65.481 / 255, 128.553 / 255, 24.966 / 255), 16.0


@dataclass(frozen=True)
class RescalingScores:
    """One method on one picture; higher is better but for ``nbytes`` and ``lpips_alex``.

    Attributes:
        nbytes: the whole payload or file.
        psnr, ssim: over RGB, the whole picture.
        psnr_y, ssim_y: of the Y channel without the border.
        lpips_alex: of the whole picture.
    """

    nbytes: int
    psnr: float
    ssim: float
    psnr_y: float
    ssim_y: float
    lpips_alex: float


@dataclass(frozen=True)
class PictureRow:
    """What was measured on one picture.

    Attributes:
        picture: its file name.
        scores: method -> scores.
        z_difference: mean absolute difference, in levels, of two pictures restored with other seeds of z.
    """

    picture: str
    scores: Mapping[str, RescalingScores]
    z_difference: float


def luma(rgb: Picture) -> npt.NDArray[np.float64]:
    """Y of BT.601, 16...235 and not rounded: uint8 ``[H, W, 3]`` -> float64 ``[H, W, 1]``."""
    y: npt.NDArray[np.float64] = (rgb.astype(np.float64) @ np.array(_LUMA))[..., None] + _LUMA_OFFSET
    return y


def luma_psnr(picture: Picture, target: Picture, border: int) -> float:
    """PSNR in dB of the Y channel without ``border`` pixels on each side; inf if equal."""
    error = float(np.mean((_inner(luma(picture), border) - _inner(luma(target), border)) ** 2))
    return float("inf") if error == 0 else 10 * math.log10(255**2 / error)


def luma_ssim(picture: Picture, target: Picture, border: int) -> float:
    """SSIM of the Y channel without ``border`` pixels on each side."""
    return similarity(_inner(luma(picture), border), _inner(luma(target), border))


def bicubic_pair(rgb: Picture, factor: int) -> tuple[Picture, Picture]:
    """The bicubic LR of a picture, and what bicubic makes of it; sides are padded to multiples of the factor first."""
    height, width = rgb.shape[:2]
    small = -(-width // factor), -(-height // factor)
    padded = Image.fromarray(pad_to(rgb, small[0] * factor, small[1] * factor))
    lr = padded.resize(small, Image.Resampling.BICUBIC)
    restored = np.asarray(lr.resize(padded.size, Image.Resampling.BICUBIC))
    return np.asarray(lr), restored[:height, :width]


class Rescaling:
    """A bundle and its metrics.

    Args:
        codec: the bundle, one that works on tiles.
        lpips: of AlexNet.
        opponents: classical codecs by name.

    Raises:
        EdgegrainError: the bundle takes square pictures only; `edgegrain evaluate` is for those.
    """

    def __init__(self, codec: Codec, lpips: LPIPS, opponents: Sequence[str] = OPPONENTS) -> None:
        self._manifest = load_manifest(codec.bundle.folder)
        if self._manifest.tile_overlap is None:
            raise EdgegrainError(f"bundle {codec.bundle.id} takes square pictures; use 'edgegrain evaluate'")
        self._codec, self._lpips, self._codecs = codec, lpips, opponents
        self._tables = coder_tables(self._manifest)

    def recalled(self, rgb: Picture, name: str, cache: ResultCache, weights_id: str) -> PictureRow:
        """`picture`, from the journal if it was measured before by the same files and libraries."""
        key = {"kind": "rescaling", "revision": REVISION, "pixels": hashlib.sha256(rgb.tobytes()).hexdigest(),
               "bundle": self._codec.bundle.lr_contract_id, "opponents": list(self._codecs),
               "weights": weights_id, **library_versions()}
        record = cache.get_or_compute(key, lambda: asdict(self.picture(rgb)))
        scores = {method: RescalingScores(**values) for method, values in record["scores"].items()}
        return PictureRow(name, scores, record["z_difference"])

    def picture(self, rgb: Picture, name: str = "") -> PictureRow:
        """Everything about one picture, uint8 ``[H, W, 3]``."""
        payload = self._codec.compress(rgb)
        drawn = [np.asarray(self._codec.restore(payload, seed=seed)) for seed in SEEDS]
        restored = {OURS: (np.asarray(self._codec.restore(payload)), len(payload)), SEEDED: (drawn[0], len(payload)),
                    **dict(self._others(rgb, len(payload)))}
        scores = {method: self._scores(picture, rgb, nbytes) for method, (picture, nbytes) in restored.items()}
        difference = float(np.abs(drawn[0].astype(np.int16) - drawn[1]).mean())
        return PictureRow(name, scores, round(difference, 4))

    def _others(self, rgb: Picture, budget: int) -> Iterator[tuple[str, tuple[Picture, int]]]:
        lr, restored = bicubic_pair(rgb, self._manifest.factor)
        body = encode_payload(lr, contract_id=self._manifest.lr_contract_id, tables=self._tables,
                              original_size=(rgb.shape[1], rgb.shape[0]))
        yield BICUBIC, (restored, len(body))
        for codec in self._codecs:
            best = ClassicalCodec(rgb, codec).best(budget)
            if best is not None:
                yield CODECS[codec], (best.rgb, best.nbytes)

    @torch.inference_mode()
    def _scores(self, picture: Picture, rgb: Picture, nbytes: int) -> RescalingScores:
        factor = self._manifest.factor
        return RescalingScores(
            nbytes, psnr(picture, rgb), ssim(picture, rgb), luma_psnr(picture, rgb, factor),
            luma_ssim(picture, rgb, factor), self._lpips(unit_batch(picture), unit_batch(rgb)).item())


def mean_rows(rows: Sequence[PictureRow]) -> dict[str, dict[str, float]]:
    """Method -> mean of every score, over the pictures that have it, and how many these are."""
    methods = dict.fromkeys(method for row in rows for method in row.scores)
    result = {}
    for method in methods:
        own = [row.scores[method] for row in rows if method in row.scores]
        result[method] = {"pictures": float(len(own))} | {
            field.name: round(statistics.fmean(getattr(score, field.name) for score in own), 4)
            for field in fields(RescalingScores)}
    return result


def section(result: Mapping[str, Any], folder: str, command: str) -> list[str]:
    """Markdown lines: the table, and where it comes from."""
    return [*markdown(result["means"]).splitlines(), "",
            f"{folder}, {len(result['pictures'])} pictures, measured {result['date']}; another random z changes a "
            f"level by {result['z_difference']:.2f} on average:", "", "```sh", command, "```"]


def markdown(means: Mapping[str, Mapping[str, float]]) -> str:
    """The means as a Markdown table."""
    lines = ["| | bytes | PSNR-Y (dB) | SSIM-Y | PSNR (dB) | SSIM | LPIPS-Alex |",
             "|---|---:|---:|---:|---:|---:|---:|"]
    lines += [f"| {method} | {own['nbytes']:,.0f} | {own['psnr_y']:.2f} | {own['ssim_y']:.4f} | {own['psnr']:.2f} | "
              f"{own['ssim']:.4f} | {own['lpips_alex']:.4f} |" for method, own in means.items()]
    return "\n".join(lines)


def _inner(values: npt.NDArray[np.float64], border: int) -> npt.NDArray[np.float64]:
    return values[border : values.shape[0] - border, border : values.shape[1] - border]


def main(
    bundle: Annotated[str, typer.Option(help="Name or folder of the bundle.")],
    pictures: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Folder of pictures not trained on.")],
    weights: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Folder of the LPIPS weights.")],
    out: Annotated[Path | None, typer.Option(help="JSON file for every number.")] = None,
    write: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="Page whose section 'rescaling "
                                               "FOLDER' is replaced by the table.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="Only the first pictures; 0: all.")] = 0,
    opponents: Annotated[str, typer.Option(
        help=f"Classical codecs, comma-separated, of {', '.join(CODECS)}; empty: none.")] = ",".join(OPPONENTS),
    threads: Annotated[int, typer.Option(min=0, help="CPU threads of the networks; 0: all.")] = 0,
    cache: Annotated[Path | None, typer.Option(
        file_okay=False, help="Folder for what is already computed [default: edgegrain's cache folder].")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file.")] = False,
) -> None:
    """Measure a bundle of photographs beside bicubic rescaling and classical codecs at the same bytes."""
    if threads:
        torch.set_num_threads(threads)
    name = f"rescaling {pictures.resolve().name}"
    with errors_on_one_line():
        if out is not None and out.exists() and not force:
            raise FileExistsError(f"{out} exists; choose another name or pass --force to replace it")
        if write is not None:
            require_section(write, name)
        codec = Codec(bundle, threads=threads or None)
        chosen = [part.strip() for part in opponents.split(",") if part.strip()]
        rescaling = Rescaling(codec, LPIPS(weights, "alex"), chosen)
        recall = functools.partial(rescaling.recalled, cache=ResultCache(cache or cache_folder() / "evaluation"),
                                   weights_id=weights_id(weights))
        paths, rows = list_pictures(pictures)[: limit or None], []
        with progress_bar() as report:
            for index, path in enumerate(paths):
                report(index / len(paths), path.name)
                rows.append(recall(load_picture(path), path.name))
        means = mean_rows(rows)
        result: dict[str, Any] = {
            "bundle": codec.bundle.id, "version": codec.bundle.version, "lr_contract_id": codec.bundle.lr_contract_id,
            "date": datetime.date.today().isoformat(), "machine": platform.machine(), "versions": library_versions(),
            "means": means, "z_difference": round(statistics.fmean(row.z_difference for row in rows), 4),
            "pictures": [asdict(row) for row in rows]}
        if out is not None:
            write_atomically(out, (json.dumps(result, indent=1) + "\n").encode(), force=force)
        if write is not None:
            folder = pictures.resolve().name
            options = f" --limit {limit}" * bool(limit) + f' --opponents "{opponents}"' * (tuple(chosen) != OPPONENTS)
            saved = "" if out is None else f" --out {out.as_posix()} --force"
            write_section(write, name, section(result, folder.capitalize(), (
                f"python -m benchmarks.quality.rescaling --bundle {codec.bundle.id} --pictures {folder.upper()} "
                f"--weights METRICS{options} \\\n    --write docs/codecs.md{saved}")))
    typer.echo(markdown(means))
    typer.echo(f"\n{len(rows)} pictures; another z changes a level by {result['z_difference']} on average")


if __name__ == "__main__":
    typer.run(main)
