"""Ctrl-C that also stops a loop over Ray, whose callbacks may drop `KeyboardInterrupt`."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import TypeVar

Item = TypeVar("Item")


def until_interrupted(items: Iterable[Item]) -> Iterator[Item]:
    """Yield the items until Ctrl-C.

    `KeyboardInterrupt` is raised at once, and again before the next item if Python dropped it, as it does in
    destructors and in callbacks from C.
    """
    if threading.current_thread() is not threading.main_thread():  # other threads receive no signals
        yield from items
        return
    interrupted = False  # no `threading.Event`: a second signal could interrupt `set` while it holds its lock

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        interrupted = True
        signal.default_int_handler(number, frame)

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        for item in items:
            if interrupted:
                raise KeyboardInterrupt
            yield item
    finally:
        signal.signal(signal.SIGINT, before)
