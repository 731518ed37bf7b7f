"""The time budget of a run, and the loop that keeps it."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from edgegrain.training import loop
from edgegrain.training.distributed import Distributed
from edgegrain.training.jsonl_log import JsonlLog
from edgegrain.training.loop import run_loop
from edgegrain.training.time_budget import TimeBudget

HERE = Distributed(torch.device("cpu"))


def test_it_ends_at_the_last_picture() -> None:
    budget = TimeBudget(HERE, 0, 100, 0)
    assert budget.progress(25) == 0.25
    assert budget.progress(100) is None
    assert TimeBudget(HERE, 0, 0, 0).progress(0) is None


def test_time_alone_can_end_a_run() -> None:
    assert TimeBudget(HERE, 0, None, 60).progress(10**9) == pytest.approx(0, abs=0.1)
    assert TimeBudget(HERE, 0, None, 1e-9).progress(0) is None


def test_it_ends_when_its_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("edgegrain.training.time_budget.time.monotonic", lambda: now)
    budget = TimeBudget(HERE, 40, 10**9, 60)
    now += 30
    assert budget.progress(100) == pytest.approx(0.5)
    assert budget.rate(100) == pytest.approx(2)
    now += 31
    assert budget.progress(100) is None


def test_an_interrupted_sessions_progress_is_the_beginning_of_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("edgegrain.training.time_budget.time.monotonic", lambda: now)
    budget = TimeBudget(HERE, 40, None, 60, begins_at=0.8)
    assert budget.reached == budget.progress(40) == pytest.approx(0.8)
    now += 30
    assert budget.progress(100) == budget.reached == pytest.approx(0.9)
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
    budget = TimeBudget(HERE, 0, 100, 0)

    def agree(part: float, interrupted: bool) -> tuple[float, bool]:
        if not interrupted:
            os.kill(os.getpid(), signal.SIGTERM)
        return part, interrupted

    monkeypatch.setattr(Distributed, "agree", lambda self, part, interrupted: agree(part, interrupted))
    with budget.ends_on_signal():
        assert budget.progress(10) == 0.1
        assert budget.progress(10) is None and budget.interrupted


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

    monkeypatch.setattr(loop, "LOG_EVERY", 3)
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


def test_a_signal_to_any_process_interrupts_all() -> None:
    class Another(Distributed):
        def agree(self, progress: float, stop: bool) -> tuple[float, bool]:
            return progress, True

    budget = TimeBudget(Another(torch.device("cpu"), world=2), 0, 100, 0)
    assert budget.progress(25) is None and budget.interrupted  # so the run does not count as finished
