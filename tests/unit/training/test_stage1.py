"""Stage 1 on a few tiny pictures: it learns, stops, resumes, and its configuration survives a checkpoint."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from edge_encoder.architectures import EncoderConfig
from edgegrain.contract.errors import BundleError
from edgegrain.training import stage1
from edgegrain.training.losses import LossWeights
from server_decoder.grain.rrdb_decoder import DecoderConfig, Scale
from tests.conftest import REPOSITORY

SMOKE = stage1.Stage1Config(
    encoder=EncoderConfig(hr=64, lr=16, patch=2, channels=(8, 16), blocks=(1, 1)),
    decoder=DecoderConfig((Scale(16, 24, rrdb=1, growth=8), Scale(32, 16, residual=1), Scale(64, 8)), "subpixel", ()),
    # Descriptors and LPIPS need pictures of ordinary size; at 64 x 64 only LPIPS has enough of one.
    loss=LossWeights(identity=0.0), batch=4, learning_rate=2e-3, warm_up=10, ema=0.9)


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Smooth random pictures: learnable in seconds."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for index in range(24):
        small = rng.integers(0, 256, (6, 6, 3), np.uint8)
        Image.fromarray(small).resize((64, 64), Image.Resampling.BICUBIC).save(folder / f"p{index:02}.png")
    return folder


def losses(run: Path) -> list[float]:
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if "loss" in row]


@pytest.mark.parametrize("correction", [True, False], ids=["encoder", "control"])
def test_the_loss_falls_below_what_an_untrained_decoder_reaches(
        faces: Path, shared_weights: Path, tmp_path: Path, correction: bool) -> None:
    run = tmp_path / "run"
    result = stage1.train(replace(SMOKE, correction=correction), data=faces, weights=shared_weights, out=run,
                          pictures=800, budget_seconds=0)
    trace = losses(run)
    assert trace[-1] < 0.6 * trace[0]
    assert result["psnr"] > 17  # a decoder that says mid-grey stays below 14 dB on these
    assert (run / "samples.png").is_file()


def test_a_run_resumes_from_its_weights_alone(faces: Path, shared_weights: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    stage1.train(SMOKE, data=faces, weights=shared_weights, out=run, pictures=80, budget_seconds=0)
    with pytest.raises(FileExistsError, match="--resume"):
        stage1.train(SMOKE, data=faces, weights=shared_weights, out=run, pictures=160, budget_seconds=0)
    stage1.train(SMOKE, data=faces, weights=shared_weights, out=run, pictures=160, budget_seconds=0, resume=True)
    model, average, config, seen = stage1.load_run(run / "last.safetensors")
    assert seen == 160
    assert config == SMOKE
    assert not torch.equal(model.decoder.conv_first.weight, average.decoder.conv_first.weight)


def test_a_time_budget_ends_a_run(faces: Path, shared_weights: Path, tmp_path: Path) -> None:
    stage1.train(SMOKE, data=faces, weights=shared_weights, out=tmp_path / "run", pictures=10**9, budget_seconds=1)
    assert stage1.load_run(tmp_path / "run" / "last.safetensors")[3] < 10**6


def test_the_learning_rate_warms_up_holds_and_anneals() -> None:
    config = stage1.Stage1Config()
    rates = [stage1.learning_rate(config, progress, 10**6) for progress in (0.0, 0.6, 0.8, 1.0)]
    assert rates[0] == rates[1] == 6e-4
    assert rates[1] > rates[2] > rates[3] > 0
    assert rates[3] == pytest.approx(6e-6)
    assert stage1.learning_rate(config, 0.0, 0) == pytest.approx(6e-4 / 200)


def test_a_run_can_begin_with_a_bundle(default_bundle: Path) -> None:
    """Its first restoration is the bundle's own."""
    from PIL import Image

    from edgegrain.contract.quantization import quantize
    from sdk import Codec

    model, config = stage1.load_bundle(default_bundle, SMOKE)
    rgb = np.array(Image.open(REPOSITORY / "edgegrain" / "demo" / "portrait.jpg").convert("RGB"))
    codec = Codec(default_bundle)
    payload = codec.compress(rgb)
    with torch.no_grad():
        levels, _ = model.encoder(torch.from_numpy(rgb).permute(2, 0, 1)[None].float())
        picture = model(torch.from_numpy(rgb).permute(2, 0, 1)[None].float())[0]
    np.testing.assert_array_equal(levels[0].permute(1, 2, 0).numpy(), payload.lr)
    restored = quantize(picture[0].permute(1, 2, 0).numpy()).astype(int)
    assert np.abs(restored - np.asarray(codec.restore(payload))).max() <= 1
    assert config.batch == SMOKE.batch


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    path.write_bytes(b"nothing")
    with pytest.raises(BundleError, match="not a stage 1 checkpoint"):
        stage1.load_run(path)
