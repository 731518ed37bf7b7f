"""Ctrl-C ends a loop also if Python dropped the `KeyboardInterrupt`."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

import pytest

from edgegrain.service.batch.interruption import until_interrupted


def numbers(interrupted_at: int, *, dropped: bool) -> Iterator[int]:
    for number in range(10):
        if number == interrupted_at:
            with contextlib.suppress(KeyboardInterrupt) if dropped else contextlib.nullcontext():
                signal.raise_signal(signal.SIGINT)
        yield number


@pytest.mark.parametrize("dropped", [False, True])
def test_the_loop_ends_before_the_next_item(dropped: bool) -> None:
    before = signal.getsignal(signal.SIGINT)
    seen: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        seen.extend(until_interrupted(numbers(4, dropped=dropped)))
    assert seen == [0, 1, 2, 3]
    assert signal.getsignal(signal.SIGINT) is before


def test_without_ctrl_c_everything_comes() -> None:
    assert list(until_interrupted(numbers(99, dropped=False))) == list(range(10))


def test_other_threads_leave_signals_alone() -> None:
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.extend(until_interrupted(range(3))))
    thread.start()
    thread.join()
    assert found == [0, 1, 2]
