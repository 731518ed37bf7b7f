"""When a turn at a run ends."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from edgegrain.training.distributed import Placement
from edgegrain.training.time_budget import Journal, Turn, take_turn

HERE = Placement(torch.device("cpu"))


def test_it_ends_at_the_last_picture() -> None:
    turn = Turn(HERE, 0, 100, 0)
    assert turn.progress(25) == 0.25
    assert turn.progress(100) is None
    assert Turn(HERE, 0, 0, 0).progress(0) is None


def test_it_ends_when_its_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("edgegrain.training.time_budget.time.monotonic", lambda: now)
    turn = Turn(HERE, 40, 10**9, 60)
    now += 30
    assert turn.progress(100) == pytest.approx(0.5)
    assert turn.rate(100) == pytest.approx(2)
    now += 31
    assert turn.progress(100) is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_means_afterwards_what_it_did_before(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    turn = Turn(HERE, 0, 100, 0)
    with turn.ends_on_signal():
        os.kill(os.getpid(), number)
        assert turn.interrupted
        assert turn.progress(10) is None
    assert signal.getsignal(number) is before


@dataclass
class Counter:
    """Steps of four pictures; its run is itself."""

    place: Placement
    pictures: int = 0
    steps: int = 0

    @property
    def run(self) -> Counter:
        return self

    def step(self, progress: float) -> dict[str, torch.Tensor]:
        self.steps, self.pictures = self.steps + 1, self.pictures + 4
        return {"loss": torch.tensor(progress)}


def test_a_turn_keeps_on_its_way_and_at_its_end(tmp_path: Path) -> None:
    trainer, calls, lines = Counter(HERE), [], []

    def keep(end: bool | None) -> dict[str, float]:
        calls.append((trainer.pictures, end))
        return {"psnr": len(calls)}

    found = take_turn(Turn(trainer.place, 0, 40, 0), trainer, Journal(tmp_path / "log.jsonl"), keep=keep, keep_every=16,
                      log_every=3, report=lambda progress, line: lines.append((progress, line)))
    assert calls == [(16, None), (32, None), (40, True)] and found == {"psnr": 3}
    logged = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["pictures"] for row in logged] == [12, 24, 36] and logged[0]["loss"] == 0.2
    assert lines == [(0.4, "20 pictures, loss 0.400"), (0.9, "40 pictures, loss 0.900")]


@pytest.mark.parametrize(("at_end", "kept"), [
    (False, [(8, None), (8, False)]), (True, [(8, None), (16, None), (16, True)])])
def test_a_turn_is_kept_whenever_a_signal_comes(at_end: bool, kept: list[tuple[int, bool | None]]) -> None:
    trainer, calls = Counter(HERE), []

    def keep(end: bool | None) -> dict[str, float]:
        if (end is not None) == at_end:
            signal.raise_signal(signal.SIGTERM)
        calls.append((trainer.pictures, end))
        return {}

    take_turn(Turn(HERE, 0, 16, 0), trainer, Journal(None), keep=keep, keep_every=8, log_every=1, report=None)
    assert calls == kept
