"""Keeps all other work on GPUs out of the capture of a CUDA graph.

ONNX Runtime captures in CUDA's global mode (``cudaStreamCaptureModeGlobal``): if any thread of the process allocates
memory meanwhile, its call fails and the capture is lost.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext


class CaptureLock:
    """Any number of threads work, or one captures.

    A capture waits for running work, and work that begins later waits for it: captures are rare and take milliseconds.
    No thread may begin a second block within a block.

    Attributes:
        captures: number of captures that wait or run.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._working = 0
        self.captures = 0

    @contextmanager
    def work(self) -> Iterator[None]:
        """Work that may run at the same time as other work."""
        with self._when(lambda: self.captures == 0):
            yield

    @contextmanager
    def capture(self) -> Iterator[None]:
        """Work that runs alone."""
        with self._changed:
            self.captures += 1
        try:
            with self._when(lambda: self._working == 0):
                yield
        finally:
            with self._changed:
                self.captures -= 1
                self._changed.notify_all()

    @contextmanager
    def _when(self, free: Callable[[], bool]) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(free)
            self._working += 1
        try:
            yield
        finally:
            with self._changed:
                self._working -= 1
                self._changed.notify_all()


GPU = CaptureLock()
"""The lock of all sessions of the process."""


def outside_captures(device: str) -> AbstractContextManager[None]:
    """Work of a session on a device, which on ``"cuda"`` does not run during a capture."""
    return GPU.work() if device == "cuda" else nullcontext()
