"""Progress of an export on stderr: bars on a terminal, elsewhere a line a step with the time that it took."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

LINE_EVERY = 15.0
"""Seconds between two lines of one step."""


class ExportProgress:
    """Shows the steps of an export; nothing without a console."""

    def __init__(self, console: Any) -> None:
        self._console = console
        self._bars: Any = None
        if console is not None and console.is_terminal:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

            self._bars = Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                                  TimeElapsedColumn(), console=console, transient=True)
        self._step, self._started, self._written = "", 0.0, 0.0
        self._task: Any = None

    def __enter__(self) -> ExportProgress:
        if self._bars:
            self._bars.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self._bars:
            self._bars.stop()
        elif kind is None:
            self._end_step()

    def step(self, text: str) -> None:
        """Begin a step, and end the one before."""
        self.count(text, None)

    def count(self, text: str, total: int | None) -> Callable[[int], None]:
        """Begin a step of ``total`` parts; the returned function is called with the number of parts that are done."""
        if self._bars:
            if self._task is not None:
                self._bars.remove_task(self._task)
            self._task = task = self._bars.add_task(text, total=total)
            return lambda done: self._bars.advance(task, done)
        self._end_step()
        self._step, self._started, self._written = text, time.monotonic(), time.monotonic()
        parts = 0

        def advance(done: int) -> None:
            nonlocal parts
            parts += done
            if time.monotonic() - self._written >= LINE_EVERY and parts != total:
                self._written = time.monotonic()
                self._line(f"{text}: {parts} of {total}")

        return advance

    def _end_step(self) -> None:
        if self._step:
            self._line(self._step)
        self._step = ""

    def _line(self, text: str) -> None:
        if self._console is not None:
            self._console.print(f"{text}, {time.monotonic() - self._started:.0f} s", highlight=False, soft_wrap=True)
