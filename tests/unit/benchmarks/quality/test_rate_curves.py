"""Rate curves: the row of a run, and the order of the rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.quality.rate_curves import Point, draw, measure_run, table
from codec_contract.payload import encode_payload
from codec_contract.rgb import Rgb
from edgegrain.metrics.kid import FeatureSets
from edgegrain.metrics.picture_metrics import Scores
from edgegrain.metrics.psnr_ssim import psnr
from edgegrain.pictures.packed import random_pictures
from edgegrain.publishing.fit_coder import fit_tables
from edgegrain.publishing.publish_grain import encode
from edgegrain.training.checkpoint import save_checkpoint
from edgegrain.training.grain.recipes import GRAIN_RECIPES
from edgegrain.training.grain.start import start_run


class PlainMetrics:
    """Scores that need no networks."""

    def against(self, original: Rgb) -> PlainMetrics:
        self.original, self.features = original, {"kid": np.zeros(4, np.float32)}
        return self

    def lpips_alex_off_grid(self, picture: Rgb) -> float:
        return 0.3

    def scores(self, picture: Rgb) -> tuple[Scores, FeatureSets]:
        return Scores(psnr(picture, self.original), 1.0, 0.25, 0.5, 0.75), {"kid": np.ones(4, np.float32)}


@pytest.mark.parametrize("step", [1, 8])
def test_a_run_is_measured_with_tables_fitted_to_its_own_lrs(tmp_path: Path, step: int) -> None:
    torch.manual_seed(1)
    recipe = GRAIN_RECIPES["smoke-stage1"]
    run = start_run(replace(recipe, lr_step=step, loss=replace(recipe.loss, rate=0.01)), None)
    run.pictures = 48
    save_checkpoint(tmp_path / "lr16", run)
    pictures = random_pictures(12, 64, seed=1)
    point = measure_run(tmp_path / "lr16", pictures, list(pictures[:2]), PlainMetrics(), steps=20)  # type: ignore[arg-type]
    tables = fit_tables(encode(run.average, pictures, 12, mirrored=True), steps=20, level_step=step)
    own = encode(run.average, pictures[:2], 2)
    sizes = [len(encode_payload(lr, contract_id=bytes(4), tables=tables, original_size=(64, 64))) for lr in own]
    assert point.bytes == pytest.approx(np.mean(sizes), abs=0.06)
    assert (point.run, point.lr, point.rate, point.pictures_seen) == ("lr16", 16, 0.01, 48)
    assert (point.lpips_alex, point.lpips_vgg, point.identity) == (0.25, 0.5, 0.75)
    assert 3 < point.psnr < 40


def test_rows_stand_by_size_and_bytes() -> None:
    points = [Point(name, lr, 0.01, 2400, size, 24.0, 0.2, 0.4, 0.5)
              for name, lr, size in (("c", 32, 700.0), ("b", 16, 600.0), ("a", 16, 500.0))]
    lines = table(points).splitlines()
    assert lines[0].split("\t") == ["run", "lr", "rate", "pictures_seen", "bytes", "psnr", "lpips_alex", "lpips_vgg",
                                    "identity"]
    assert [line.split("\t")[0] for line in lines[1:]] == ["a", "b", "c"]
    assert draw(points).startswith(b"\x89PNG")
