"""Tensors in several files: complete, of limited size, from their own folder only."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from edgegrain.training import weight_shards as shards
from edgegrain.training.weight_shards import load_shards, save_shards


def test_large_states_are_split_and_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "FILE_LIMIT", shards._HEADER + 1000)
    tensors = {f"t{index}": torch.full((100,), float(index)) for index in range(7)}  # 400 bytes each: two per file
    path = tmp_path / "last.safetensors"
    save_shards(path, tensors, {"note": "kept"}, serial=5)
    assert len(list(tmp_path.iterdir())) == 4
    metadata, loaded = load_shards(path)
    assert metadata["note"] == "kept"
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())

    copy = tmp_path / "last-good-copy.safetensors"
    copy.touch()
    save_shards(path, {"t0": torch.zeros(3)}, {}, serial=6)
    assert set(tmp_path.iterdir()) == {path, copy}


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


def test_missing_and_outside_parts_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "FILE_LIMIT", shards._HEADER + 1000)
    path = tmp_path / "last.safetensors"
    save_shards(path, {f"t{index}": torch.zeros(200) for index in range(2)}, {}, serial=1)
    next(tmp_path.glob("last-*")).unlink()
    with pytest.raises(OSError, match="last-0000000001-1"):
        load_shards(path)
    path.write_bytes(shards.save({"t": torch.zeros(1)}, metadata={"files": '["../other.safetensors"]'}))
    with pytest.raises(ValueError, match="outside its folder"):
        load_shards(path)
