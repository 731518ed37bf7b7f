"""Four stages with one call: the runs that it starts, their time, and the stage at which it continues."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from codec_contract.errors import EdgegrainError
from edgegrain.training import all_stages
from edgegrain.training.all_stages import share_out, train_stages
from edgegrain.training.changes import changed
from edgegrain.training.family import RunOptions
from edgegrain.training.grain.chains import CHAINS, STAGES
from edgegrain.training.recipes import family_of
from edgegrain.training.run_folder import CHECKPOINT, LOG, finished
from server_decoder.stylegan2.synthesis import TINY_64, StyleGAN2
from server_decoder.stylegan2.weights import save_stylegan2

SMOKE = CHAINS["smoke"]


class Stages:
    """Replaces the training of a stage: each leaves a run that came to its end, or was interrupted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, interrupts: str = "") -> None:
        self.calls: list[dict[str, Any]] = []
        self.interrupts = interrupts
        monkeypatch.setattr(all_stages, "train_on", self)

    def __call__(self, distributed: object, recipe: Any, folder: Path, options: RunOptions, **settings: Any
                 ) -> dict[str, float]:
        assert options.given() <= family_of(recipe).takes(recipe)
        self.calls.append({"stage": folder.name, "recipe": recipe, "options": options, **settings})
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CHECKPOINT).touch()
        with (folder / LOG).open("a") as log:
            log.write(json.dumps({"pictures": 8, "end": folder.name != self.interrupts}) + "\n")
        return {"psnr": 20.0}


def test_every_stage_begins_with_the_one_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stages = Stages(monkeypatch)
    assert train_stages(SMOKE, tmp_path, RunOptions(init_from="faces"), pictures=24) == {"psnr": 20.0}
    assert [call["stage"] for call in stages.calls] == list(STAGES)
    assert [call["recipe"].stage for call in stages.calls] == ["1", "2", "3", "final"]
    assert [call["options"].init_from for call in stages.calls] == [
        "faces", *(tmp_path / stage for stage in STAGES[:3])]
    assert {call["pictures"] for call in stages.calls} == {24}
    with pytest.raises(FileExistsError, match="--resume"):
        train_stages(SMOKE, tmp_path)
    assert train_stages(SMOKE, tmp_path, resume=True) == {}
    assert len(stages.calls) == 4  # all are finished


def test_the_generator_goes_to_the_stages_that_have_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stages = Stages(monkeypatch)
    save_stylegan2(tmp_path / "prior.safetensors", StyleGAN2(TINY_64))
    train_stages(SMOKE, tmp_path / "runs", RunOptions(prior=tmp_path / "prior.safetensors"))
    assert [call["options"].prior is not None for call in stages.calls] == [False, True, True, True]
    with pytest.raises(EdgegrainError, match="pass --prior with the file of one that makes cats"):
        train_stages(CHAINS["cats-256-lr16"], tmp_path / "cats")
    assert not (tmp_path / "cats").exists()


def test_what_was_interrupted_is_continued(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stages = Stages(monkeypatch, interrupts="stage2")
    train_stages(SMOKE, tmp_path)
    assert [call["stage"] for call in stages.calls] == ["stage1", "stage2"]
    stages.interrupts = ""
    train_stages(SMOKE, tmp_path, resume=True)
    assert [call["stage"] for call in stages.calls[2:]] == ["stage2", "stage3", "final"]
    assert finished(tmp_path / "final") and not finished(tmp_path)


def test_time_goes_to_the_stages_that_are_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert share_out(100, (50, 15, 10, 25), (False,) * 4) == [50, 15, 10, 25]
    assert share_out(100, (50, 15, 10, 25), (True, False, False, False)) == [0, 30, 20, 50]
    stages = Stages(monkeypatch)
    train_stages(changed(SMOKE, ["shares=1,1,1,2"]), tmp_path, budget_seconds=1000)
    budgets = [call["budget_seconds"] for call in stages.calls]
    assert budgets == pytest.approx([200, 250, 333, 1000], abs=3)  # a stage that ended early leaves its time


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    with pytest.raises(EdgegrainError, match="no use for --decoder-from, --teacher"):
        train_stages(SMOKE, tmp_path, RunOptions(decoder_from="faces", teacher="x"))
    for shares in ("1,2,3", "1,2,3,0"):
        with pytest.raises(EdgegrainError, match="shares are four positive numbers, such as 50,15,10,25"):
            changed(SMOKE, [f"shares={shares}"])


def test_four_stages_are_trained_in_one_process(tmp_path: Path) -> None:
    chain = SMOKE
    for stage, recipe in chain.stages.items():
        chain = chain.with_stage(stage, replace(recipe, batch=2, synthetic=min(recipe.synthetic, 0.5),
                                                random_pictures=4))
    figures = train_stages(chain, tmp_path, pictures=4)
    assert figures["pictures"] == 4 and all(finished(tmp_path / stage) for stage in STAGES)
    assert train_stages(chain, tmp_path, pictures=8, resume=True) == {}


def test_chains_have_all_four_stages() -> None:
    assert {"faces-256-lr16", "faces-1024-lr16", "1024-lr16-paper", "smoke"} <= set(CHAINS)
    assert CHAINS["1024-lr16-paper"].stages["stage3"].trains == ("fusion",)
    assert not {"faces-256-lr16-gan", "faces-256-lr16-image-fusion"} & set(CHAINS)
