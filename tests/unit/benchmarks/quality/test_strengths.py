from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner

import sdk
from benchmarks.quality.strengths import (
    SIDE,
    STRENGTHS,
    level_distance,
    lpips_distance,
    main,
    measure_smoothness,
    sweep,
)
from codec_contract.errors import ImageError
from codec_contract.quantization import dequantize, quantize
from codec_contract.rgb import Rgb
from edge_encoder.integer_network import run_reference
from edge_encoder.lowering import box_network
from edgegrain.papers.face_sr.bundle import GCFSR_WEIGHTS, load_gcfsr
from edgegrain.papers.gcfsr.network import GCFSRUpscaler
from edgegrain.pictures.sheets import GAP, MARGIN
from tests.face_sr import store_gcfsr
from tests.tiny_bundle import HR, LR, write_steered_bundle, write_tiny_bundle


@torch.no_grad()
def restored(network: GCFSRUpscaler, lr: Rgb) -> list[Rgb]:
    """The pictures of a torch network for an LR with every strength."""
    x = torch.from_numpy(np.ascontiguousarray(dequantize(lr.astype(np.float32)).transpose(2, 0, 1)))[None]
    return [quantize(network(x, torch.tensor([s]))[0].permute(1, 2, 0).numpy()) for s in STRENGTHS]


def test_steps_and_ends_of_a_bundle_whose_light_is_half_its_strength(tmp_path: Path) -> None:
    codec = sdk.Codec(write_steered_bundle(tmp_path))
    pictures = sweep(codec, np.full((LR, LR, 3), 100, np.uint8))
    assert [int(picture.max()) for picture in pictures] == [102, 104, 108, 112, 116, 124, 132]
    found = measure_smoothness(pictures, STRENGTHS)
    assert found.steps == (2, 4, 4, 4, 8, 8) and found.ends == 30 and found.smooth
    assert measure_smoothness(pictures[::6], STRENGTHS[::6]).smooth is False  # one step is no sweep
    with pytest.raises(ImageError, match="no control 'strength'"):
        sweep(sdk.Codec(write_tiny_bundle(tmp_path)), np.zeros((LR, LR, 3), np.uint8))


def test_what_does_not_steer_or_jumps_is_not_smooth() -> None:
    flat = [np.full((8, 8, 3), level, np.uint8) for level in (10, 10, 10)]
    assert not measure_smoothness(flat, (4, 8, 16)).smooth
    there_and_back = [np.full((8, 8, 3), level, np.uint8) for level in (10, 90, 20)]
    found = measure_smoothness(there_and_back, (4, 8, 16))
    assert found.steps == (80, 70) and found.ends == 10 and not found.smooth


@pytest.mark.parametrize("strengths", [(4,), (4, 4, 8), (8, 4, 16), (4, 8)])
def test_sweeps_that_are_none(strengths: tuple[float, ...]) -> None:
    with pytest.raises(ImageError, match="ascending, and a picture for each"):
        measure_smoothness([np.zeros((8, 8, 3), np.uint8)] * (3 if len(strengths) > 1 else 1), strengths)


def test_a_tiny_network_is_steered_smoothly(tmp_path: Path) -> None:
    network = GCFSRUpscaler(load_gcfsr(store_gcfsr(tmp_path / "zoo") / GCFSR_WEIGHTS), 4)
    lr = np.random.default_rng(0).integers(60, 200, (4, 4, 3), dtype=np.uint8)
    found = measure_smoothness(restored(network, lr), STRENGTHS)
    assert found.ends > 1 and found.smooth


def test_the_zoo_s_network_is_steered_smoothly(repository: Path, portrait: Rgb, shared_weights: Path) -> None:
    weights = repository / "zoo" / "gcfsr-faces-256" / GCFSR_WEIGHTS
    if not weights.is_file():
        pytest.skip("needs zoo/gcfsr-faces-256 with trained weights of GCFSR")
    lr = run_reference(box_network(256, 16), portrait[None])[0]
    pictures = restored(GCFSRUpscaler(load_gcfsr(weights), 16), lr)
    for distance in (level_distance, lpips_distance(shared_weights)):
        assert measure_smoothness(pictures, STRENGTHS, distance).smooth


def test_the_sheet(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(main)
    bundle, picture, out = write_steered_bundle(tmp_path), tmp_path / "me.png", tmp_path / "sheet.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 200, (HR, HR, 3), dtype=np.uint8)).save(picture)
    arguments = ["--bundle", str(bundle), "--picture", str(picture), "--out", str(out)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["strengths"] == list(STRENGTHS) and report["smooth"] is True and report["distance"] == "levels"
    assert len(report["from_original"]) == 7 and len(report["steps"]) == 6
    with Image.open(out) as sheet:
        assert sheet.width == 2 * MARGIN + 9 * (SIDE + GAP) - GAP  # original, LR and seven strengths
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 1 and "--force" in again.output
    wrong = CliRunner().invoke(app, [*arguments, "--force", "--strengths", "4,much"])
    assert wrong.exit_code == 2 and "list of numbers" in wrong.output
