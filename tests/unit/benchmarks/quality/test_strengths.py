from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner

from benchmarks.quality.strengths import SIDE, STRENGTHS, level_distance, main
from codec_contract.pixels import Rgb, dequantize, quantize
from edge_encoder.integer_network import run_reference
from edge_encoder.lowering import box_network
from edgegrain.metrics.lpips import LPIPS
from edgegrain.metrics.picture_metrics import unit_batch
from edgegrain.papers.face_sr.bundle import GCFSR_WEIGHTS, load_gcfsr
from edgegrain.papers.gcfsr.network import GCFSRUpscaler
from edgegrain.pictures.sheets import GAP, MARGIN
from tests.face_sr import store_gcfsr
from tests.tiny_bundle import HR, write_steered_bundle


@torch.no_grad()
def restored(network: GCFSRUpscaler, lr: Rgb) -> list[Rgb]:
    """The pictures of a torch network for an LR with every strength."""
    x = torch.from_numpy(np.ascontiguousarray(dequantize(lr.astype(np.float32)).transpose(2, 0, 1)))[None]
    return [quantize(network(x, torch.tensor([s]))[0].permute(1, 2, 0).numpy()) for s in STRENGTHS]


def check_steps(pictures: list[Rgb], distance: Callable[[Rgb, Rgb], float] = level_distance) -> None:
    """No step between neighbouring strengths is as large as the distance between the first and the last picture."""
    ends = distance(pictures[0], pictures[-1])
    assert 0 < max(distance(one, other) for one, other in pairwise(pictures)) < ends


def test_a_tiny_network_is_steered_smoothly(tmp_path: Path) -> None:
    network = GCFSRUpscaler(load_gcfsr(store_gcfsr(tmp_path / "zoo") / GCFSR_WEIGHTS), 4)
    lr = np.random.default_rng(0).integers(60, 200, (4, 4, 3), dtype=np.uint8)
    check_steps(restored(network, lr))


def test_the_zoo_s_network_is_steered_smoothly(repository: Path, portrait: Rgb, shared_weights: Path) -> None:
    weights = repository / "zoo" / "gcfsr-faces-256" / GCFSR_WEIGHTS
    if not weights.is_file():
        pytest.skip("needs zoo/gcfsr-faces-256 with trained weights of GCFSR")
    lr = run_reference(box_network(256, 16), portrait[None])[0]
    pictures = restored(GCFSRUpscaler(load_gcfsr(weights), 16), lr)
    lpips = LPIPS(shared_weights)
    check_steps(pictures)
    check_steps(pictures, lambda one, other: float(lpips(unit_batch(one), unit_batch(other)).item()))


def test_the_sheet(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(main)
    bundle, picture, out = write_steered_bundle(tmp_path), tmp_path / "me.png", tmp_path / "sheet.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 200, (HR, HR, 3), dtype=np.uint8)).save(picture)
    arguments = ["--bundle", str(bundle), "--picture", str(picture), "--out", str(out)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    with Image.open(out) as sheet:
        assert sheet.width == 2 * MARGIN + 9 * (SIDE + GAP) - GAP  # original, LR and seven strengths
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 1 and "--force" in again.output
