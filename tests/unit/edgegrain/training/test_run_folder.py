"""Default folders of runs and their locks, and the test if a run is finished."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from edgegrain.pictures.writing import InUseError, only_writer
from edgegrain.training.all_stages import train_stages
from edgegrain.training.distributed import Distributed
from edgegrain.training.grain.chains import CHAINS
from edgegrain.training.grain.recipes import GRAIN_RECIPES
from edgegrain.training.loop import train
from edgegrain.training.run_folder import CHECKPOINT, claim_run_folder, finished

ALONE = Distributed(torch.device("cpu"))


def run_folder(recipe: str, folder: Path | None = None, *, resume: bool = False) -> Path:
    with claim_run_folder(ALONE, recipe, folder, resume=resume) as claimed:
        assert claimed.is_dir()
    return claimed


@pytest.fixture(autouse=True)
def work_in_a_new_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_new_run_takes_a_new_folder_and_a_resumed_one_the_last() -> None:
    assert run_folder("smoke", Path("mine")) == Path("mine")
    assert run_folder("smoke") == run_folder("smoke", resume=True) == Path("runs/smoke")
    for name in ("smoke", "smoke-2"):
        Path("runs", name).mkdir(parents=True)
        Path("runs", name, "log.jsonl").touch()
    assert run_folder("smoke") == Path("runs/smoke-3")
    assert run_folder("smoke", resume=True) == Path("runs/smoke-2")
    assert run_folder("other") == Path("runs/other")


def test_a_run_of_several_stages_takes_a_folder_too() -> None:
    Path("runs/smoke/stage1").mkdir(parents=True)
    Path("runs/smoke/stage1/log.jsonl").touch()
    assert run_folder("smoke") == Path("runs/smoke-2")
    assert run_folder("smoke", resume=True) == Path("runs/smoke")


def test_a_folder_in_use_is_left_to_its_run() -> None:
    Path("runs/smoke-3").mkdir(parents=True)
    Path("runs/smoke-3/log.jsonl").touch()
    with claim_run_folder(ALONE, "smoke") as first, claim_run_folder(ALONE, "smoke") as second:
        assert (first, second, run_folder("smoke")) == (
            Path("runs/smoke"), Path("runs/smoke-2"), Path("runs/smoke-4"))
        for folder, resume in ((first, False), (first, True), (None, True)):
            with pytest.raises(InUseError, match="another process writes to runs/smoke"):
                run_folder("smoke", folder, resume=resume)
    assert [path.name for path in Path("runs").iterdir()] == ["smoke-3"]


@pytest.mark.parametrize(("start", "recipe"), [
    (train, GRAIN_RECIPES["smoke-stage1"]), (train_stages, CHAINS["smoke"])])
def test_training_from_python_locks_the_folder_too(
        start: Callable[..., object], recipe: object, tmp_path: Path) -> None:
    with only_writer(tmp_path), pytest.raises(InUseError, match=f"another process writes to {tmp_path}"):
        start(recipe, tmp_path, pictures=0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("last", "expected"), [('{"pictures": 8, "end": true}', True), ('{"end": false}', False),
                                                ('{"pictures": 8}', False), ("", False), ('{"pictures": 8, "e', False)])
def test_a_run_is_finished_if_it_ended_by_itself(last: str, expected: bool, tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text(last)
    assert not finished(tmp_path)
    (tmp_path / CHECKPOINT).touch()
    assert finished(tmp_path) == expected
