"""When a turn at a run ends."""

from __future__ import annotations

import os
import signal

import pytest
import torch

from edgegrain.training.placement import Placement
from edgegrain.training.turn import Turn

HERE = Placement(torch.device("cpu"))


def test_it_ends_at_the_last_picture() -> None:
    turn = Turn(HERE, 0, 100, 0)
    assert turn.progress(25) == 0.25
    assert turn.progress(100) is None
    assert Turn(HERE, 0, 0, 0).progress(0) is None


def test_it_ends_when_its_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("edgegrain.training.turn.time.monotonic", lambda: now)
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
