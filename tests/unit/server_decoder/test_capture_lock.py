"""Captures run alone, other work runs beside other work."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from server_decoder.bound_runs import CaptureLock

WAIT = 10


def test_work_runs_beside_other_work() -> None:
    lock, both = CaptureLock(), threading.Barrier(2)

    def work() -> int:
        with lock.work():
            return both.wait(WAIT)  # breaks unless the other thread is here too

    with ThreadPoolExecutor(2) as threads:
        places = [done.result() for done in [threads.submit(work) for _ in range(2)]]
    assert sorted(places) == [0, 1]


def test_a_capture_waits_for_work_and_later_work_for_the_capture() -> None:
    lock, events, order = CaptureLock(), [threading.Event() for _ in range(2)], []
    begun, release = events

    def work() -> None:
        with lock.work():
            begun.set()
            assert release.wait(WAIT)
            order.append("work")

    def capture() -> None:
        with lock.capture():
            order.append("capture")

    def later() -> None:
        with lock.work():
            order.append("later work")

    with ThreadPoolExecutor(3) as threads:
        running = [threads.submit(work)]
        assert begun.wait(WAIT)
        running.append(threads.submit(capture))
        while not lock.captures:
            assert not running[1].done()
        running.append(threads.submit(later))
        release.set()
        for done in running:
            done.result()
    assert order == ["work", "capture", "later work"]


def test_captures_run_one_after_another() -> None:
    lock, inside, most = CaptureLock(), [0], [0]

    def capture() -> None:
        for _ in range(20):
            with lock.capture():
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0.001)  # other threads run meanwhile
                inside[0] -= 1

    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(capture) for _ in range(4)]:
            done.result()
    assert most == [1]


def test_a_failure_releases_the_lock() -> None:
    lock = CaptureLock()
    for block in (lock.capture, lock.work):
        with pytest.raises(ValueError, match="failed"), block():
            raise ValueError("failed")
    with lock.capture():
        pass
