"""Variants of the decoder differ in what their titles say; unfinished runs are refused; the table has every cell."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from benchmarks.quality import ablations
from benchmarks.quality.ablations import GROUPS, Variant, billion_macs, train_variant
from codec_contract.errors import EdgegrainError
from edgegrain.training.checkpoint import CHECKPOINT
from edgegrain.training.family import RunOptions
from edgegrain.training.grain.grow import grow
from edgegrain.training.grain.recipes import GRAIN_RECIPES
from edgegrain.training.run import LOG
from server_decoder.grain.rrdb_decoder import FACES_256_LR16, DecoderConfig, RRDBDecoder

SMOKE = Variant("smoke", replace(GRAIN_RECIPES["smoke-stage1"], batch=2))


def test_losses_differ_in_the_discriminator_only() -> None:
    for variant in GROUPS["losses"].values():
        base = GROUPS["losses"]["projected"].recipe
        assert replace(variant.recipe, adversarial=base.adversarial) == base
    recipes = [str(asdict(variant.recipe)) for variant in GROUPS["losses"].values()]
    assert len(set(recipes)) == len(recipes)


def test_all_sizes_grow_from_the_decoder_of_0_5_and_cost_more_from_one_to_the_next() -> None:
    macs = []
    for variant in GROUPS["sizes"].values():
        assert isinstance(variant.recipe.decoder, DecoderConfig) and variant.recipe.grows
        with torch.device("meta"):
            decoder = RRDBDecoder(variant.recipe.decoder)
            grow(decoder, RRDBDecoder(FACES_256_LR16))  # refuses a decoder that is smaller somewhere
        macs.append(billion_macs(variant.recipe.decoder))
    assert macs == sorted(macs) and macs[0] == pytest.approx(4.74, abs=0.01) and macs[-1] < 14


def test_a_finished_run_is_not_trained_again_and_an_interrupted_one_is_refused(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = [False]

    def train(recipe: object, run: Path, options: RunOptions, **rest: object) -> None:
        run.mkdir()
        (run / CHECKPOINT).touch()
        (run / LOG).write_text(json.dumps({"end": ends.pop()}) + "\n")

    monkeypatch.setattr(ablations, "train", train)
    for _ in range(2):  # the second call does not train
        with pytest.raises(EdgegrainError, match="was interrupted"):
            train_variant(SMOKE, tmp_path / "a", RunOptions(), 1)
    ends.append(True)
    train_variant(SMOKE, tmp_path / "b", RunOptions(), 1)
    train_variant(SMOKE, tmp_path / "b", RunOptions(), 1)
    assert not ends


def test_a_row_without_a_score_or_a_cost_has_a_dash() -> None:
    lines = ablations.table({"start": {"psnr": 23.456}, "variant": {"dists": 0.17777}},
                            {"": ["pictures"], "variant": ["4,300"]})
    assert lines[0].startswith("| | pictures | PSNR (dB) | LPIPS-Alex† |")
    assert lines[2].startswith("| start | – | 23.46 | – |") and "| 4,300 | – | – | – | .1778 |" in lines[3]
    assert len({line.count("|") for line in lines}) == 1
