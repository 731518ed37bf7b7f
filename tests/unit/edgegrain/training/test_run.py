"""Runs: their loop and end, log and folder, and four stages with one call."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from codec_contract.errors import EdgegrainError
from edgegrain.pictures.writing import InUseError, only_writer
from edgegrain.training import run as training_run
from edgegrain.training.checkpoint import CHECKPOINT
from edgegrain.training.distributed import Distributed
from edgegrain.training.family import RunOptions, family_of, recipes
from edgegrain.training.recipe import STAGES, Chain, changed
from edgegrain.training.run import LOG, JsonlLog, TimeBudget, claim_run_folder, finished, run_loop, train
from server_decoder.stylegan2.networks import TINY_64, StyleGAN2, save_stylegan2

HERE = Distributed(torch.device("cpu"))


@pytest.mark.parametrize(("begins_at", "pictures"), [(0.0, 10**9), (0.8, None)])
def test_it_goes_on_from_the_progress_of_an_interrupted_session_and_ends_when_its_time_is_up(
        begins_at: float, pictures: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("edgegrain.training.run.time.monotonic", lambda: now)
    budget = TimeBudget(HERE, 40, pictures, 60, begins_at=begins_at)
    assert budget.reached == begins_at and budget.progress(40) == pytest.approx(begins_at, abs=1e-6)
    now += 30
    assert budget.progress(100) == budget.reached == pytest.approx((1 + begins_at) / 2)
    assert budget.rate(100) == pytest.approx(2)
    now += 31
    assert budget.progress(200) is None and budget.reached == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_is_handled_as_before_afterwards(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    budget = TimeBudget(HERE, 0, 100, 0)
    with budget.ends_on_signal():
        os.kill(os.getpid(), number)
        assert budget.interrupted
        assert budget.progress(10) is None
    assert signal.getsignal(number) is before


def test_a_signal_while_the_processes_agree_counts_at_the_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    def agree(processes: Distributed, part: float, interrupted: bool) -> tuple[float, bool]:
        if processes.world == 1 and not interrupted:
            os.kill(os.getpid(), signal.SIGTERM)
        return part, interrupted or processes.world > 1  # another process got the signal

    monkeypatch.setattr(Distributed, "agree", agree)
    budget, of_several = (TimeBudget(Distributed(HERE.device, world=world), 0, 100, 0) for world in (1, 2))
    with budget.ends_on_signal():
        assert budget.progress(10) == 0.1
        assert budget.progress(10) is None and budget.interrupted
    assert of_several.progress(25) is None and of_several.interrupted  # so the run does not count as finished


@dataclass
class Counter:
    """Steps of four pictures; its run is itself."""

    distributed: Distributed
    pictures: int = 0
    steps: int = 0

    @property
    def run(self) -> Counter:
        return self

    def step(self, progress: float) -> dict[str, torch.Tensor]:
        self.steps, self.pictures = self.steps + 1, self.pictures + 4
        return {"loss": torch.tensor(progress)}


def test_a_run_is_saved_on_its_way_and_at_its_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    trainer, calls, lines = Counter(HERE), [], []

    def keep(end: bool | None) -> dict[str, float]:
        calls.append((trainer.pictures, end))
        return {"psnr": len(calls)}

    monkeypatch.setattr(training_run, "LOG_EVERY", 3)
    found = run_loop(trainer, TimeBudget(HERE, 0, 40, 0), JsonlLog(tmp_path / "log.jsonl"), evaluate_and_save=keep,
                     evaluate_every=16, report=lambda progress, line: lines.append((progress, line)))
    assert calls == [(16, None), (32, None), (40, True)] and found == {"psnr": 3}
    logged = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["pictures"] for row in logged] == [12, 24, 36] and logged[0]["loss"] == 0.2
    assert lines == [(0.4, "20 pictures, loss 0.400"), (0.9, "40 pictures, loss 0.900")]


@pytest.mark.parametrize(("at_end", "kept"), [
    (False, [(8, None), (8, False)]), (True, [(8, None), (16, None), (16, True)])])
def test_a_run_is_saved_whenever_a_signal_comes(at_end: bool, kept: list[tuple[int, bool | None]]) -> None:
    trainer, calls = Counter(HERE), []

    def keep(end: bool | None) -> dict[str, float]:
        if (end is not None) == at_end:
            signal.raise_signal(signal.SIGTERM)
        calls.append((trainer.pictures, end))
        return {}

    run_loop(trainer, TimeBudget(HERE, 0, 16, 0), JsonlLog(None), evaluate_and_save=keep, evaluate_every=8, report=None)
    assert calls == kept


@pytest.mark.parametrize(("before", "after"), [
    ("", ""), ('{"a": 1}\n', '{"a": 1}\n'), ('{"a": 1, "b', '{"a": 1, "b\n')])
def test_a_row_is_a_line(before: str, after: str, tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text(before)
    JsonlLog(tmp_path / "log.jsonl").write({"loss": 0.1234567})
    assert (tmp_path / "log.jsonl").read_text() == after + '{"loss": 0.12346}\n'


def run_folder(recipe: str, folder: Path | None = None, *, resume: bool = False) -> Path:
    with claim_run_folder(HERE, recipe, folder, resume=resume) as claimed:
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
    Path("runs/stages/stage1").mkdir(parents=True)  # a run of several stages
    Path("runs/stages/stage1/log.jsonl").touch()
    assert run_folder("stages") == Path("runs/stages-2")
    assert run_folder("stages", resume=True) == Path("runs/stages")


def test_a_folder_in_use_is_left_to_its_run() -> None:
    Path("runs/smoke-3").mkdir(parents=True)
    Path("runs/smoke-3/log.jsonl").touch()
    with claim_run_folder(HERE, "smoke") as first, claim_run_folder(HERE, "smoke") as second:
        assert (first, second, run_folder("smoke")) == (
            Path("runs/smoke"), Path("runs/smoke-2"), Path("runs/smoke-4"))
        for folder, resume in ((first, False), (first, True), (None, True)):
            with pytest.raises(InUseError, match="another process writes to runs/smoke"):
                run_folder("smoke", folder, resume=resume)
    assert [path.name for path in Path("runs").iterdir()] == ["smoke-3"]


@pytest.mark.parametrize("recipe", ["smoke-stage1", "smoke"])
def test_training_from_python_locks_the_folder_too(recipe: str, tmp_path: Path) -> None:
    with only_writer(tmp_path), pytest.raises(InUseError, match=f"another process writes to {tmp_path}"):
        train(recipes()[recipe], tmp_path, pictures=0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("last", "expected"), [('{"pictures": 8, "end": true}', True), ('{"end": false}', False),
                                                ('{"pictures": 8}', False), ("", False), ('{"pictures": 8, "e', False)])
def test_a_run_is_finished_if_it_ended_by_itself(last: str, expected: bool, tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text(last)
    assert not finished(tmp_path)
    (tmp_path / CHECKPOINT).touch()
    assert finished(tmp_path) == expected


SMOKE = recipes()["smoke"]


class Stages:
    """Replaces the training of a stage: each leaves a run that came to its end, or was interrupted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[dict[str, Any]] = []
        self.interrupts = ""
        monkeypatch.setattr(training_run, "train_on", self)

    def __call__(self, distributed: object, recipe: Any, folder: Path, options: RunOptions, **settings: Any
                 ) -> dict[str, float]:
        assert options.given() <= family_of(recipe).takes(recipe)
        self.calls.append({"stage": folder.name, "recipe": recipe, "options": options, **settings})
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CHECKPOINT).touch()
        with (folder / LOG).open("a") as log:
            log.write(json.dumps({"pictures": 8, "end": folder.name != self.interrupts}) + "\n")
        return {"psnr": 20.0}


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> Stages:
    return Stages(monkeypatch)


def test_every_stage_begins_with_the_one_before(stages: Stages, tmp_path: Path) -> None:
    assert train(SMOKE, tmp_path, RunOptions(init_from="faces"), pictures=24) == {"psnr": 20.0}
    assert [call["stage"] for call in stages.calls] == list(STAGES)
    assert [call["recipe"].stage for call in stages.calls] == ["1", "2", "3", "final"]
    assert [call["options"].init_from for call in stages.calls] == [
        "faces", *(tmp_path / stage for stage in STAGES[:3])]
    assert {call["pictures"] for call in stages.calls} == {24}
    with pytest.raises(FileExistsError, match="--resume"):
        train(SMOKE, tmp_path)
    assert train(SMOKE, tmp_path, resume=True) == {}
    assert len(stages.calls) == 4  # all are finished


def test_the_generator_goes_to_the_stages_that_have_one(stages: Stages, tmp_path: Path) -> None:
    save_stylegan2(tmp_path / "prior.safetensors", StyleGAN2(TINY_64))
    train(SMOKE, tmp_path / "runs", RunOptions(prior=tmp_path / "prior.safetensors"))
    assert [call["options"].prior is not None for call in stages.calls] == [False, True, True, True]
    with pytest.raises(EdgegrainError, match="pass --prior with the file of one that makes cats"):
        train(recipes()["cats-256-lr16"], tmp_path / "cats")
    assert not (tmp_path / "cats").exists()


def test_what_was_interrupted_is_continued(stages: Stages, tmp_path: Path) -> None:
    stages.interrupts = "stage2"
    train(SMOKE, tmp_path)
    assert [call["stage"] for call in stages.calls] == ["stage1", "stage2"]
    stages.interrupts = ""
    train(SMOKE, tmp_path, resume=True)
    assert [call["stage"] for call in stages.calls[2:]] == ["stage2", "stage3", "final"]
    assert finished(tmp_path / "final") and not finished(tmp_path)


def test_time_goes_to_the_stages_that_are_left(stages: Stages, tmp_path: Path) -> None:
    train(changed(SMOKE, ["shares=1,1,1,2"]), tmp_path, budget_seconds=1000)
    budgets = [call["budget_seconds"] for call in stages.calls]
    assert budgets == pytest.approx([200, 250, 333, 1000], abs=3)  # a stage that ended early leaves its time


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    with pytest.raises(EdgegrainError, match="no use for --discriminator, --teacher"):
        train(SMOKE, tmp_path, RunOptions(discriminator="x", teacher="x"))
    for shares in ("1,2,3", "1,2,3,0"):
        with pytest.raises(EdgegrainError, match="shares are four positive numbers, such as 50,15,10,25"):
            changed(SMOKE, [f"shares={shares}"])


@pytest.mark.usefixtures("unevaluated")
def test_four_stages_are_trained_in_one_process(tmp_path: Path) -> None:
    chain = Chain({stage: replace(recipe, batch=2, synthetic=min(recipe.synthetic, 0.5), random_pictures=4)
                   for stage, recipe in SMOKE.stages.items()})
    figures = train(chain, tmp_path, pictures=4)
    assert figures["pictures"] == 4 and all(finished(tmp_path / stage) for stage in STAGES)
    assert train(chain, tmp_path, pictures=8, resume=True) == {}
