"""A turn at a run on a machine that may go away: when it ends, and what it logs."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from edgegrain.training.distributed import Placement


class Turn:
    """Time and pictures of this process at a run."""

    def __init__(self, place: Placement, seen: int, pictures: int, budget_seconds: float) -> None:
        """``seen`` in earlier turns; the run ends at ``pictures``, the turn after ``budget_seconds`` (0: no limit)."""
        self._place, self._first, self._pictures, self._budget = place, seen, pictures, budget_seconds
        self._started = time.monotonic()
        self.interrupted = False

    def progress(self, seen: int) -> float | None:
        """The part of the run that is done, 0...1; None when it is time to end. The same for all processes."""
        part = seen / self._pictures if self._pictures else 1.0
        if self._budget:
            part = max(part, (time.monotonic() - self._started) / self._budget)
        part, stopped = self._place.agree(part, self.interrupted)
        return None if stopped or part >= 1 else part

    def rate(self, seen: int) -> float:
        """Pictures per second."""
        return (seen - self._first) / max(time.monotonic() - self._started, 1e-9)

    @contextlib.contextmanager
    def ends_on_signal(self) -> Iterator[None]:
        """The first Ctrl-C or SIGTERM ends the turn after the current step; the second does what it always does."""

        def request(number: int, frame: object) -> None:
            self.interrupted = True
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

        before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class Seen(Protocol):
    """A run: what is kept from turn to turn."""

    pictures: int


class Stepper(Protocol):
    """What trains a run step by step; ``steps`` counts those of this turn."""

    steps: int
    place: Placement

    @property
    def run(self) -> Seen: ...

    def step(self, progress: float) -> dict[str, Tensor]:
        """One batch at this progress (0...1) of the run: what the log is to tell, the most telling value first."""


def take_turn(turn: Turn, trainer: Stepper, journal: Journal, *, keep: Callable[[bool | None], dict[str, float]],
              keep_every: int, log_every: int, report: Callable[[float, str], None] | None) -> dict[str, float]:
    """Step until the turn ends; returns what the last ``keep`` returned.

    Args:
        turn: when that is.
        trainer: what steps.
        journal: takes a line every ``log_every`` steps.
        keep: evaluates and saves. It is told None on the way; then whether the turn ended by itself.
        keep_every: pictures between two calls of ``keep``.
        log_every: steps between two lines.
        report: is told the finished part of the run and a line about it, every few seconds.
    """
    run = trainer.run
    next_keep = run.pictures + keep_every
    with turn.ends_on_signal():
        while (progress := turn.progress(run.pictures)) is not None:
            terms = trainer.step(progress)
            if trainer.steps % log_every == 0:
                journal.write({"pictures": run.pictures, "per_second": turn.rate(run.pictures),
                               **{name: float(value) for name, value in terms.items()}})
            if report and trainer.place.first and trainer.steps % 5 == 0:
                name, value = next(iter(terms.items()))
                report(progress, f"{run.pictures:,} pictures, {name} {float(value):.3f}")
            if run.pictures >= next_keep:
                next_keep += keep_every
                keep(None)
        return keep(not turn.interrupted)


class Journal:
    """JSON lines, appended as they come; None writes nowhere."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def write(self, row: Mapping[str, Any]) -> None:
        """Append a line; numbers are rounded to five decimals."""
        if self._path is not None:
            plain = {name: round(value, 5) if isinstance(value, float) else value for name, value in row.items()}
            with self._path.open("a") as file:
                file.write(json.dumps(plain) + "\n")
