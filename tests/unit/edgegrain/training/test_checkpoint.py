"""The checkpoint of all families: what was saved is read, other families and old formats are told apart."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from codec_contract.errors import ModelError
from edgegrain.training.checkpoint import (
    checkpoint_path,
    open_checkpoint,
    prefixed,
    progress_of,
    read_checkpoint_header,
    save_checkpoint,
)
from edgegrain.training.weight_shards import save_shards


@dataclass(frozen=True)
class Config:
    width: int = 2

    def as_dict(self) -> dict[str, Any]:
        return {"width": self.width}


@dataclass
class Run:
    recipe: Config = Config()
    pictures: int = 24
    family: str = "irn"
    layer: nn.Linear = field(default_factory=lambda: nn.Linear(2, 2))

    def tensors(self) -> dict[str, torch.Tensor]:
        return prefixed({"model": self.layer})

    def state(self) -> dict[str, Any]:
        return {"p": 0.5}

    def save_weights(self, folder: Path) -> None:
        raise AssertionError


def test_a_checkpoint_is_read_as_it_was_saved(tmp_path: Path) -> None:
    run = Run()
    save_checkpoint(tmp_path, run)
    assert checkpoint_path(tmp_path) == checkpoint_path(tmp_path / "last.safetensors") == tmp_path / "last.safetensors"
    with open_checkpoint(tmp_path, "irn") as stored:
        assert (stored.config, stored.pictures, stored.state) == ({"width": 2}, 24, {"p": 0.5})
        assert torch.equal(stored.part("model")["weight"], run.layer.weight)
        assert stored.part("discriminator") == {}
    assert read_checkpoint_header(tmp_path)["family"] == "irn"


def test_progress_is_that_of_interrupted_runs(tmp_path: Path) -> None:
    assert progress_of(tmp_path) == 0
    save_checkpoint(tmp_path, Run(), 0.25)
    assert progress_of(tmp_path) == 0.25


@pytest.mark.parametrize(("log", "expected"), [
    ([], 1), (['{"pictures": 8, "end": true}'], 1), (['{"pictures": 24, "end": false}', '{"pictures": 24, "en'], 1),
    (['{"pictures": 24, "end": true}'], 0), (['{"pictures": 24, "end": true}', '{"seen": 24}'], 0)])
@pytest.mark.parametrize("progress", [1.0, 1.228])  # above 1: written by earlier versions
def test_a_schedule_is_over_once_its_last_evaluation_is_logged(progress: float, log: list[str], expected: float,
                                                               tmp_path: Path) -> None:
    save_checkpoint(tmp_path, Run(), progress)
    (tmp_path / "log.jsonl").write_text("\n".join(log))
    assert progress_of(tmp_path) == expected


def test_a_checkpoint_at_its_end_without_a_log_begins_a_new_schedule(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, Run(), 1.0)
    assert progress_of(tmp_path) == 0


def test_another_family_and_other_files_are_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, Run())
    with pytest.raises(ModelError, match="is a checkpoint of irn, expected grain"), open_checkpoint(tmp_path, "grain"):
        pass
    with pytest.raises(ModelError, match=r"not a training checkpoint \('missing'\)"), \
            open_checkpoint(tmp_path, "irn") as stored:
        stored.config["missing"]
    (tmp_path / "last.safetensors").write_bytes(b"noise")
    for reader in (lambda: read_checkpoint_header(tmp_path), lambda: open_checkpoint(tmp_path, "irn").__enter__()):
        with pytest.raises(ModelError, match="not a training checkpoint"):
            reader()
    save_shards(tmp_path / "last.safetensors", {"x": torch.zeros(1)}, {"other": "file"}, 0)
    with pytest.raises(ModelError, match="no known family"), open_checkpoint(tmp_path, "irn"):
        pass


@pytest.mark.parametrize(("family", "header"), [
    ("grain", {"pictures": "8", "history": '[{"stage": "1"}]', "prior": "abc"}),
    ("irn", {"format": "edgegrain IRN training 1", "pictures": "8"}),
    ("face_sr", {"format": "edgegrain face SR training 1", "pictures": "8", "bank": "abc"}),
    ("stylegan2", {"format": "edgegrain-prior-run-1", "state": '{"pictures": 8, "steps": 1, "p": 0.1}'}),
    ("distillation", {"format": "edgegrain-distillation-1", "pictures": "8"}),
])
def test_checkpoints_of_edgegrain_0_5_are_read(family: str, header: dict[str, str], tmp_path: Path) -> None:
    header = {"config": json.dumps({"a": 1}), **header}
    save_shards(tmp_path / "last.safetensors", {"model.x": torch.ones(1)}, header, 8)
    with open_checkpoint(tmp_path, family) as stored:
        assert stored.pictures == 8 and stored.config == {"a": 1} and stored.part("model")["x"] == 1
        if family == "grain":
            assert stored.state == {"prior": "abc", "history": [{"stage": "1"}]}
        if family == "face_sr":
            assert stored.state["bank"] == "abc"
