"""The sheet of variants: each picture comes from the part in its title."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner

from benchmarks.quality.variants import (
    CODES,
    INVERTIBLE,
    WHOLE,
    WITHOUT,
    main,
    mean_scores,
    restore_variants,
    with_head,
)
from codec_contract.errors import ModelError
from codec_contract.lr_coder.coder_tables import CoderTables
from edgegrain.metrics.picture_metrics import Scores
from edgegrain.pictures.sheets import GAP, MARGIN
from edgegrain.training.checkpoint import save_checkpoint
from edgegrain.training.grain.recipes import GRAIN_RECIPES
from edgegrain.training.grain.start import start_run
from export.decoder.sources import TRAINED, DecoderSource, random_decoder
from server_decoder.grain.weights import save_trained
from server_decoder.mobile_stylegan.generator import MobileStyleGAN, save_mobile_stylegan

LR = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)


@pytest.fixture(scope="module")
def source() -> DecoderSource:
    return random_decoder("grain-smoke-mobile")


def test_every_part_has_its_picture(source: DecoderSource) -> None:
    pictures = restore_variants(source, LR)
    assert list(pictures) == [INVERTIBLE, CODES, WITHOUT, WHOLE]
    assert all(picture.shape == (64, 64, 3) and picture.dtype == np.uint8 for picture in pictures.values())
    x = torch.from_numpy(LR.astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
    with torch.no_grad():
        output = source.decoder.forward_all(x)
    for title, tensor in ((INVERTIBLE, output.invertible), (CODES, output.style), (WHOLE, output.final)):
        levels = ((tensor[0].permute(1, 2, 0).numpy() + 1) * 127.5).clip(0, 255)
        assert np.abs(pictures[title] - levels).max() < 0.51
    assert (pictures[WITHOUT] != pictures[WHOLE]).any()


def test_what_a_bundle_leaves_out_comes_from_the_generators_file(source: DecoderSource, tmp_path: Path) -> None:
    prior = source.decoder.prior
    save_mobile_stylegan(prior, tmp_path / "prior.safetensors")
    wanted = {name: tensor.clone() for name, tensor in prior.state_dict().items()}
    prior.head.weight.fill_(torch.nan)
    with_head(source, tmp_path / "prior.safetensors")
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in prior.state_dict().items())
    save_mobile_stylegan(MobileStyleGAN(prior.config), tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match="not the one in"):
        with_head(source, tmp_path / "other.safetensors")


def test_means() -> None:
    scores = [Scores(20.0, 0.5, 0.2, 0.3, 0.4), Scores(30.0, 0.7, 0.1, 0.2, 0.2)]
    assert mean_scores({"a": scores})["a"] == {
        "psnr": 25.0, "ssim": 0.6, "lpips_alex": 0.15, "lpips_vgg": 0.25, "identity": 0.3}


def test_the_command_draws_and_refuses_to_overwrite(tmp_path: Path, portrait_path: Path) -> None:
    torch.manual_seed(0)
    decoder = random_decoder("grain-smoke-mobile").decoder
    save_trained(decoder, tmp_path / "zoo" / TRAINED)
    save_mobile_stylegan(decoder.prior, tmp_path / "prior.safetensors")
    (tmp_path / "zoo" / "coder.json").write_bytes(replace(CoderTables.default(), step=16).to_json())
    (tmp_path / "faces").mkdir()
    Image.open(portrait_path).save(tmp_path / "faces" / "one.png")
    application = typer.Typer()
    application.command()(main)
    save_checkpoint(tmp_path / "run", start_run(GRAIN_RECIPES["smoke-stage1"], None))
    arguments = ["--bundle", str(tmp_path / "zoo"), "--prior", str(tmp_path / "prior.safetensors"), "--data",
                 str(tmp_path / "faces"), "--out", str(tmp_path / "sheet.png"), "--compare",
                 f"again={tmp_path / 'zoo'}", "--compare", f"run={tmp_path / 'run'}"]
    result = CliRunner().invoke(application, arguments)
    assert result.exit_code == 0, result.stderr
    with Image.open(tmp_path / "sheet.png") as sheet:
        pixels = np.asarray(sheet)
    assert pixels.shape[1] == 2 * MARGIN + 8 * 64 + 7 * GAP
    lr, whole, again, run = (pixels[-64 - MARGIN : -MARGIN, left : left + 64].astype(int)
                             for left in (MARGIN + column * (64 + GAP) for column in (1, 5, 6, 7)))
    assert ((lr % 16 == 0) | (lr == 255)).all()  # levels in steps
    assert np.abs(whole - again).max() <= 1  # decoded by two builds of one float network
    assert np.abs(whole - run).max() > 1
    repeated = CliRunner().invoke(application, arguments)
    assert repeated.exit_code == 1 and "--force" in repeated.stderr
    wrong = CliRunner().invoke(application, [*arguments, "--force", "--compare", "nothing"])
    assert wrong.exit_code == 2 and "TITLE=NAME" in wrong.stderr
