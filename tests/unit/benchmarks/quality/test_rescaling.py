"""The protocol of the literature, bicubic rescaling, and a whole row of the table."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from benchmarks.quality import rescaling
from benchmarks.quality.rescaling import PictureRow, RescalingScores, luma, luma_psnr, luma_ssim, markdown, mean_rows
from codec_contract.errors import EdgegrainError
from edgegrain.evaluation.results import described_pictures
from sdk import Codec
from tests.tiny_bundle import refresh_manifest, write_tiny_bundle


def test_scores_of_luma_leave_out_the_border() -> None:
    colours = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    assert luma(colours)[0, :, 0] == pytest.approx([16, 235, 81.481, 144.553, 40.966])  # BT.601's
    target = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    picture = target.copy()
    picture[:4], picture[:, -4:] = 0, 255
    assert luma_psnr(picture, target, 4) == float("inf") and luma_ssim(picture, target, 4) == pytest.approx(1)
    assert luma_psnr(picture, target, 3) < 40 and luma_ssim(picture, target, 3) < 1
    shifted = np.clip(target.astype(int) + 2, 0, 255).astype(np.uint8)
    error = np.mean((luma(shifted)[4:-4, 4:-4] - luma(target)[4:-4, 4:-4]) ** 2)
    assert luma_psnr(shifted, target, 4) == pytest.approx(10 * np.log10(255**2 / error))


def test_bicubic_rescaling_keeps_odd_sizes() -> None:
    rgb = np.full((37, 50, 3), 90, np.uint8)
    lr, restored = rescaling.bicubic_pair(rgb, 4)
    assert lr.shape == (10, 13, 3) and restored.shape == rgb.shape and (restored == 90).all()
    rgb = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
    lr, _ = rescaling.bicubic_pair(rgb, 4)
    assert np.array_equal(lr, np.asarray(Image.fromarray(rgb).resize((6, 4), Image.Resampling.BICUBIC)))


def test_means_and_table() -> None:
    one, two = RescalingScores(1000, 30.0, 0.8, 31.0, 0.82, 0.2), RescalingScores(3000, 34.0, 0.9, 35.0, 0.92, 0.1)
    means = mean_rows([PictureRow("a", {"IRN": one}, 0.1, 2), PictureRow("b", {"IRN": two, "WebP": one}, 0.1, 2)])
    assert means["IRN"] == {"pictures": 2, **asdict(RescalingScores(2000, 32, 0.85, 33, 0.87, 0.15))}
    assert means["WebP"]["pictures"] == 1
    assert markdown(means).splitlines()[2] == "| IRN | 2,000 | 33.00 | 0.8700 | 32.00 | 0.8500 | 0.1500 |"
    without = mean_rows([PictureRow("a", {"IRN": replace(one, lpips_alex=None)}, 0.1, 2)])
    assert without["IRN"]["lpips_alex"] is None
    assert markdown(without).splitlines()[2] == "| IRN | 1,000 | 31.00 | 0.8200 | 30.00 | 0.8000 | – |"


class _Payload(bytes):
    lr: np.ndarray


class _StandIn:
    """Four times smaller by taking every fourth pixel, and back by repeating it."""

    def __init__(self, folder: Path) -> None:
        self.bundle = SimpleNamespace(id="stand-in", version="1.0.0", folder=folder, lr_contract_id="aa")

    def compress(self, rgb: np.ndarray, *, align: bool) -> _Payload:
        assert not align
        self._lr = rgb[::4, ::4]
        payload = _Payload(4000)
        payload.lr = self._lr
        return payload

    def restore(self, payload: bytes, seed: int | None = None) -> Image.Image:
        levels = self._lr.repeat(4, 0).repeat(4, 1).astype(int) + (seed or 0)
        return Image.fromarray(levels.clip(0, 255).astype(np.uint8))


def test_a_picture_is_measured_in_every_way(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path)
    with pytest.raises(EdgegrainError, match="square pictures"):
        rescaling.Rescaling(Codec(folder), None, ())
    preprocessing = json.loads((folder / "manifest.json").read_text())["preprocessing"]
    refresh_manifest(folder, preprocessing={**preprocessing, "tile_overlap": 4})

    rng = np.random.default_rng(0)
    rgb = np.asarray(Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).resize((64, 48)))
    measured = rescaling.Rescaling(_StandIn(folder), lambda a, b: (a - b).abs().mean(), ("webp",)).picture(rgb, "a")
    assert list(measured.scores) == ["IRN", "IRN, random z", "bicubic / bicubic", "WebP"]
    assert measured.z_difference == pytest.approx(1, abs=0.1)
    small = np.asarray(Image.fromarray(rgb).resize((16, 12), Image.Resampling.BICUBIC))
    assert measured.lr_difference == pytest.approx(np.abs(small.astype(int) - rgb[::4, ::4]).mean(), abs=1e-4)
    ours, bicubic, webp = (measured.scores[name] for name in ("IRN", "bicubic / bicubic", "WebP"))
    assert ours.nbytes == 4000 and webp.nbytes <= 4000 and 100 < bicubic.nbytes < 3 * 12 * 16 + 20
    assert bicubic.psnr > ours.psnr + 1 and webp.psnr > 30 and bicubic.ssim_y > ours.ssim_y
    assert bicubic.lpips_alex < ours.lpips_alex
    quick = rescaling.Rescaling(_StandIn(folder), None, ("webp",)).picture(rgb, "a")
    assert quick.scores["IRN"] == replace(ours, lpips_alex=None)


def test_the_summary_is_json_with_an_infinite_psnr(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_text("a")
    exact = RescalingScores(1000, float("inf"), 1.0, float("inf"), 1.0, 0.0)
    found = rescaling.summary(_StandIn(tmp_path).bundle, [PictureRow("a", {"IRN": exact}, 0, 1.96)], [path])
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["lr_difference"] == 1.96 and found["picture_set"] == described_pictures([path])
    (row,) = found["pictures"]
    assert (row["scores"]["IRN"]["psnr"], found["means"]["IRN"]["psnr_y"]) == (None, None)
    assert markdown(found["means"]).splitlines()[2] == "| IRN | 1,000 | ∞ | 1.0000 | ∞ | 1.0000 | 0.0000 |"


def test_the_section_tells_where_the_table_comes_from() -> None:
    score = RescalingScores(1000, 30.0, 0.8, 31.0, 0.82, 0.2)
    means = mean_rows([PictureRow("a", {"IRN": score}, 0.126, 1.96)])
    result = {"means": means, "pictures": [{}], "date": "2026-11-20", "z_difference": 0.126, "lr_difference": 1.96}
    lines = rescaling.section(result, "Kodak", "the command")
    assert lines[:3] == markdown(result["means"]).splitlines()
    assert lines[4].startswith("Kodak, 1 pictures, measured 2026-11-20.") and "one by 2.0 levels," in lines[4]
    assert lines[5] == "and another random z changes the picture by 0.13:"
    assert lines[-4:] == ["<!-- not run: needs your pictures -->", "```sh", "the command", "```"]
