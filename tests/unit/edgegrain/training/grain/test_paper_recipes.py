"""The four stages with the paper's recipes, shrunk to pictures of 64 pixels, its RRDB encoder included."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sdk
from codec_contract.bundle.file_names import RRDB_ENCODER_WEIGHTS
from codec_contract.bundle.manifest import load_manifest
from codec_contract.errors import BundleError
from codec_contract.lr_coder.coder_tables import CoderTables
from edgegrain.papers.grain.rrdb_encoder import TrainedRRDBEncoder
from edgegrain.pictures.packed import random_pictures
from edgegrain.publishing import publish_grain
from edgegrain.publishing.publish_grain import publish_run, store_trained
from edgegrain.training.adversarial import DiscriminatorConfig
from edgegrain.training.family import RunOptions
from edgegrain.training.grain.model import load_run
from edgegrain.training.grain.recipes import GRAIN_RECIPES, GrainRecipe, RRDBEncoderConfig
from edgegrain.training.grain.start import start_run
from edgegrain.training.run import train
from export.bundle.writer import BundleParts
from server_decoder.grain.rrdb_decoder import DecoderConfig, Scale

ENCODER = RRDBEncoderConfig(64, 16, width=8, growth=4, rrdb=1)
DECODER = DecoderConfig((Scale(16, 8, rrdb=1, growth=4), Scale(32, 8, rrdb=1, growth=4),
                         Scale(64, 8, dense=1, growth=4)), head=(8,))


def shrunk(stage: str) -> GrainRecipe:
    """A stage of the paper for 64 x 64 from 16 x 16, without the metric networks."""
    recipe, smoke = GRAIN_RECIPES[f"{stage}-1024-lr16-paper"], GRAIN_RECIPES["smoke-stage2"]
    assert recipe.adversarial is not None
    return replace(
        recipe, encoder=ENCODER, decoder=DECODER if stage == "stage1" else replace(smoke.decoder, decoder=DECODER),
        loss=replace(recipe.loss, lpips=0.0, identity=0.0), batch=2, learning_rate=1e-3, ema=0.5, random_pictures=8,
        adversarial=replace(recipe.adversarial, discriminator=DiscriminatorConfig(64, 8, 16), every=1))


def test_all_stages_train_one_after_the_other(tmp_path: Path) -> None:
    start = None
    for stage in ("stage1", "stage2", "stage3", "final"):
        folder = tmp_path / stage
        figures = train(shrunk(stage), folder, RunOptions(init_from=start), pictures=6)
        assert figures["pictures"] == 6 and figures["skipped"] == 0 and np.isfinite(figures["psnr"])
        start = folder
    assert isinstance(load_run(tmp_path / "stage1").model.encoder, TrainedRRDBEncoder)


def test_the_encoder_learns_through_the_quantization() -> None:
    torch.manual_seed(0)
    run = start_run(replace(shrunk("stage1"), adversarial=None), None)
    picture = torch.from_numpy(random_pictures(2, 64, 0)).permute(0, 3, 1, 2).float()
    restored = run.model(picture)
    levels = (restored.lr + 1) * 127.5
    assert restored.lr.shape == (2, 3, 16, 16) and torch.equal(levels.round(), levels.clamp(0, 255).round())
    torch.testing.assert_close(levels, levels.round(), atol=1e-3, rtol=0)
    restored.picture.square().mean().backward()
    gradients = [parameter.grad for parameter in run.model.encoder.parameters()]
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients)
    noisy = (run.model(picture, noise=True).lr.detach() + 1) * 127.5
    assert 0.1 < float((noisy - levels.detach()).abs().mean()) < 0.6
    torch.testing.assert_close(run.model.encoder(picture)[1], torch.floor(
        torch.nn.functional.avg_pool2d(picture, 4) + 0.5))


def test_a_run_becomes_a_bundle_that_can_be_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish_grain, "fit_tables", lambda lrs, level_step: CoderTables.default())
    monkeypatch.setattr(publish_grain, "BundleParts", lambda *parts: BundleParts(*parts, formats=("onnx",)))
    (tmp_path / "data").mkdir()
    for index, rgb in enumerate(random_pictures(4, 64, 1)):
        Image.fromarray(np.asarray(rgb)).save(tmp_path / "data" / f"{index}.png")
    train(replace(shrunk("stage1"), adversarial=None), tmp_path / "run", pictures=4)
    reports: list[tuple[float, str]] = []
    publish_run(tmp_path / "run", tmp_path / "data", tmp_path / "paper-64", bundle_id="paper-64", version="1.0.0",
                coder_pictures=4, report=lambda part, line: reports.append((part, line)))
    assert reports[-2:] == [(1.0, "encoding 4 pictures"), (1.0, "exporting encoder and decoder")]
    manifest = load_manifest(tmp_path / "paper-64")
    assert manifest.encoder["exact"] is False and RRDB_ENCODER_WEIGHTS in manifest.files
    assert "exact encoder" not in manifest.open_file("README.md").decode()
    model = load_run(tmp_path / "run").average
    picture = random_pictures(1, 64, 5)[0]
    with torch.no_grad():
        expected = model.encoder(torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float())[0]
    lr = sdk.Codec(tmp_path / "paper-64", threads=1).compress(picture, align=False).lr.astype(int)
    assert np.abs(lr - expected[0].permute(1, 2, 0).numpy()).max() <= 1
    wider = replace(shrunk("stage1"), encoder=replace(ENCODER, width=16), adversarial=None)
    again = start_run(wider, tmp_path / "paper-64")
    assert again.recipe.encoder == ENCODER  # shapes are those of the start
    for name, tensor in model.encoder.state_dict().items():
        torch.testing.assert_close(again.model.encoder.state_dict()[name], tensor)
    with pytest.raises(BundleError, match="no integers"):
        store_trained(tmp_path / "run", tmp_path / "zoo")


def test_sizes_that_are_not_halved_are_refused() -> None:
    with pytest.raises(ValueError, match="48 -> 16 is not possible"):
        RRDBEncoderConfig(48, 16)
    assert RRDBEncoderConfig(1024, 16).halvings == 6 and RRDBEncoderConfig(1024, 16).name == "rrdb-c64-g32-b10-s6"
