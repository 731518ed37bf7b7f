"""Checkpoints: their files, headers, and what is refused."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from codec_contract.errors import ModelError
from edgegrain.training.checkpoint import Run, checkpoint_path, open_checkpoint, open_header, save_checkpoint
from edgegrain.training.run import finished, progress_of


@dataclass(frozen=True)
class Config:
    width: int = 2

    def as_dict(self) -> dict[str, Any]:
        return {"width": self.width}


@dataclass
class Linear(Run):
    recipe: Config = Config()
    model: nn.Linear = field(default_factory=lambda: nn.Linear(2, 2))
    average: nn.Linear = field(default_factory=lambda: nn.Linear(2, 2))
    pictures: int = 24
    family = "irn"

    def state(self) -> dict[str, Any]:
        return {"p": 0.5}


def test_a_checkpoint_is_read_as_it_was_saved(tmp_path: Path) -> None:
    run = Linear()
    save_checkpoint(tmp_path, run)
    assert checkpoint_path(tmp_path) == checkpoint_path(tmp_path / "last.safetensors") == tmp_path / "last.safetensors"
    with open_checkpoint(tmp_path, "irn") as stored:
        assert (stored.config, stored.pictures, stored.state) == ({"width": 2}, 24, {"p": 0.5})
        assert torch.equal(stored.part("model")["weight"], run.model.weight)
        assert stored.part("discriminator") == {}
    with open_header(tmp_path) as header:
        assert header["family"] == "irn"


def test_a_run_is_finished_if_it_ended_by_itself(tmp_path: Path) -> None:
    assert progress_of(tmp_path) == 0 and not finished(tmp_path)
    save_checkpoint(tmp_path, Linear(), 0.25)
    assert progress_of(tmp_path) == 0.25 and not finished(tmp_path)
    save_checkpoint(tmp_path, Linear())
    assert finished(tmp_path)


def test_another_family_and_other_files_are_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, Linear())
    with pytest.raises(ModelError, match="is a checkpoint of irn, expected grain"), open_checkpoint(tmp_path, "grain"):
        pass
    damaged = pytest.raises(ModelError, match=r"not a training checkpoint \('missing'\)")
    with damaged, open_checkpoint(tmp_path, "irn") as stored:
        stored.config["missing"]
    (tmp_path / "last.safetensors").write_bytes(b"noise")
    for reader in (open_header(tmp_path), open_checkpoint(tmp_path, "irn")):
        with pytest.raises(ModelError, match="not a training checkpoint"), reader:
            pass
    save_file({"x": torch.zeros(1)}, tmp_path / "last.safetensors", {"other": "file"})
    with pytest.raises(ModelError, match="no known family"), open_checkpoint(tmp_path, "irn"):
        pass
