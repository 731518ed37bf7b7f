"""Runs: their loop and end, log and folder."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from codec_contract.errors import EdgegrainError
from edgegrain.pictures.writing import only_writer
from edgegrain.training import run as training_run
from edgegrain.training.distributed import Distributed
from edgegrain.training.family import recipes
from edgegrain.training.run import TimeBudget, run_loop, train, write_row

HERE = Distributed(torch.device("cpu"))


@pytest.mark.parametrize(("begins_at", "pictures"), [(0.0, 10**9), (0.8, None)])
def test_it_goes_on_from_the_progress_of_an_interrupted_session_and_ends_when_its_time_is_up(
    begins_at: float, pictures: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
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

    def keep(end: bool) -> dict[str, float]:
        calls.append((trainer.pictures, end))
        return {"psnr": len(calls)}

    monkeypatch.setattr(training_run, "LOG_EVERY", 3)
    budget, log = TimeBudget(HERE, 0, 40, 0), tmp_path / "log.jsonl"
    found = run_loop(trainer, budget, log, keep, 16, lambda progress, line: lines.append((progress, line)))
    assert calls == [(16, False), (32, False), (40, True)] and found == {"psnr": 3}
    logged = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["pictures"] for row in logged] == [12, 24, 36] and logged[0]["loss"] == 0.2
    assert lines == [(0.4, "20 pictures, loss 0.400"), (0.9, "40 pictures, loss 0.900")]


@pytest.mark.parametrize(("at", "kept"), [(8, [(8, False), (8, False)]), (16, [(8, False), (16, False), (16, False)])])
def test_a_run_is_saved_whenever_a_signal_comes(at: int, kept: list[tuple[int, bool]]) -> None:
    trainer, calls = Counter(HERE), []

    def keep(end: bool) -> dict[str, float]:
        if trainer.pictures == at and not budget.interrupted:
            signal.raise_signal(signal.SIGTERM)
        calls.append((trainer.pictures, end))
        return {}

    budget = TimeBudget(HERE, 0, 16, 0)
    run_loop(trainer, budget, None, keep, 8, None)
    assert calls == kept


def test_a_row_is_a_line(tmp_path: Path) -> None:
    for loss in (0.1234567, 2):
        write_row(tmp_path / "log.jsonl", {"loss": loss})
    assert (tmp_path / "log.jsonl").read_text() == '{"loss": 0.12346}\n{"loss": 2}\n'
    write_row(None, {"loss": 1})


def test_training_from_python_locks_the_folder_too(tmp_path: Path) -> None:
    with only_writer(tmp_path), pytest.raises(EdgegrainError, match=f"another process writes to {tmp_path}"):
        train(recipes()["smoke-stage1"], tmp_path, pictures=0)
    assert not list(tmp_path.iterdir())
