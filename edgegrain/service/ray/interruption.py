"""Ctrl-C that is not lost in a library's callbacks."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import TypeVar

Item = TypeVar("Item")


def until_interrupted(items: Iterable[Item]) -> Iterator[Item]:
    """The items, until Ctrl-C raises `KeyboardInterrupt`: at once, and again before the next item where Python dropped
    it, as it does in destructors and in callbacks from C.
    """
    if threading.current_thread() is not threading.main_thread():  # no other gets signals
        yield from items
        return
    asked = threading.Event()

    def interrupt(number: int, frame: FrameType | None) -> None:
        asked.set()
        signal.default_int_handler(number, frame)

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        for item in items:
            if asked.is_set():
                raise KeyboardInterrupt
            yield item
    finally:
        signal.signal(signal.SIGINT, before)
