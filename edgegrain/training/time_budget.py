"""The end of a training run on a machine that may be preempted: pictures, seconds and signals."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator

from edgegrain.training.distributed import Distributed


class TimeBudget:
    """Time and pictures that this process may spend on a run.

    Attributes:
        interrupted: True once Ctrl-C or SIGTERM asked for the end, in any of the processes.
        reached: the last progress, 0...1.
    """

    def __init__(self, distributed: Distributed, seen: int, pictures: int | None, seconds: float, *,
                 begins_at: float = 0.0) -> None:
        """Start the clock.

        Args:
            distributed: the processes, which end at the same step.
            seen: pictures of earlier sessions of the run.
            pictures: end of the run, those of earlier sessions included; None for no limit.
            seconds: end of this session; 0 for no limit.
            begins_at: progress that an interrupted session reached, from which the seconds lead to the end.
        """
        self._distributed, self._first, self._pictures, self._seconds = distributed, seen, pictures, seconds
        self._started = time.monotonic()
        self._begins_at = self.reached = begins_at
        self.interrupted = False

    def progress(self, seen: int) -> float | None:
        """The finished part of the run, 0...1, or None when it is time to end; the same for all processes."""
        if self._pictures is None:
            part = 0.0
        else:
            part = seen / self._pictures if self._pictures else 1.0
        if self._seconds:
            spent = (time.monotonic() - self._started) / self._seconds
            part = max(part, self._begins_at + (1 - self._begins_at) * spent)
        part, interrupted = self._distributed.agree(part, self.interrupted)
        if interrupted:  # else a signal may have come in the meantime, which counts at the next step
            self.interrupted = True
        self.reached = min(part, 1.0)
        return None if interrupted or part >= 1 else part

    def rate(self, seen: int) -> float:
        """Pictures per second in this session."""
        return (seen - self._first) / max(time.monotonic() - self._started, 1e-9)

    @contextlib.contextmanager
    def ends_on_signal(self) -> Iterator[None]:
        """End after the current step on the first Ctrl-C or SIGTERM; a second one has its usual effect."""

        def request(number: int, frame: object) -> None:
            self.interrupted = True
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

        before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
