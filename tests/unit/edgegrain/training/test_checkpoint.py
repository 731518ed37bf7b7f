"""Checkpoints: their files, headers, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from codec_contract.errors import ModelError
from edgegrain.training import checkpoint as shards
from edgegrain.training.checkpoint import (
    Run,
    checkpoint_path,
    load_shards,
    open_checkpoint,
    open_header,
    save_checkpoint,
    save_shards,
)
from edgegrain.training.run import progress_of


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


@pytest.mark.parametrize(("log", "expected"), [
    ([], 1), (['{"pictures": 8, "end": true}'], 1), (['{"pictures": 24, "end": false}', '{"pictures": 24, "en'], 1),
    (['{"pictures": 24, "end": true}'], 0), (['{"pictures": 24, "end": true}', '{"seen": 24}'], 0)])
def test_a_schedule_is_over_once_its_last_evaluation_is_logged(log: list[str], expected: float, tmp_path: Path
                                                               ) -> None:
    assert progress_of(tmp_path) == 0
    save_checkpoint(tmp_path, Linear(), 0.25)
    assert progress_of(tmp_path) == 0.25
    save_checkpoint(tmp_path, Linear())
    assert progress_of(tmp_path) == 0  # without a log
    (tmp_path / "log.jsonl").write_text("\n".join(log))
    assert progress_of(tmp_path) == expected


def test_another_family_and_other_files_are_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, Linear())
    with pytest.raises(ModelError, match="is a checkpoint of irn, expected grain"), open_checkpoint(tmp_path, "grain"):
        pass
    with pytest.raises(ModelError, match=r"not a training checkpoint \('missing'\)"), \
            open_checkpoint(tmp_path, "irn") as stored:
        stored.config["missing"]
    (tmp_path / "last.safetensors").write_bytes(b"noise")
    for reader in (open_header(tmp_path), open_checkpoint(tmp_path, "irn")):
        with pytest.raises(ModelError, match="not a training checkpoint"), reader:
            pass
    save_shards(tmp_path / "last.safetensors", {"x": torch.zeros(1)}, {"other": "file"}, 0)
    with pytest.raises(ModelError, match="no known family"), open_checkpoint(tmp_path, "irn"):
        pass


def test_a_failed_write_leaves_the_checkpoint_before_it_and_nothing_else(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "FILE_LIMIT", shards._HEADER + 1000)
    path = tmp_path / "last.safetensors"
    save_shards(path, {f"t{index}": torch.zeros(200) for index in range(3)}, {}, serial=1)
    before = set(tmp_path.iterdir())
    write, written = shards.write_atomically, []

    def full(path: Path, data: bytes, *, force: bool = False) -> Path:
        if len(written) == failing:
            raise OSError(28, "No space left on device", str(path))
        written.append(path)
        return write(path, data, force=force)

    monkeypatch.setattr(shards, "write_atomically", full)
    for failing in range(3):
        written.clear()
        with pytest.raises(OSError, match="No space left"):
            save_shards(path, {f"t{index}": torch.ones(200) for index in range(3)}, {}, serial=1)
        assert len(written) == failing and set(tmp_path.iterdir()) == before
        assert not any(tensor.any() for tensor in load_shards(path)[1].values())
    monkeypatch.undo()
    save_shards(path, {"t0": torch.ones(200)}, {}, serial=1)
    assert set(tmp_path.iterdir()) == {path}


def test_parts_outside_the_folder_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    path.write_bytes(shards.save({"t": torch.zeros(1)}, metadata={"files": '["../other.safetensors"]'}))
    with pytest.raises(ValueError, match="outside its folder"):
        load_shards(path)
