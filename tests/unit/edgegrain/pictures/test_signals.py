"""SIGTERM ends a block as an exception, unless the program has a use of its own for it."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from edgegrain.pictures.signals import exit_on_sigterm

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


def test_sigterm_is_an_exit_inside_and_has_its_usual_effect_outside() -> None:
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    with pytest.raises(SystemExit) as ended, exit_on_sigterm():
        os.kill(os.getpid(), signal.SIGTERM)
    assert ended.value.code == 143 and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_handler_of_the_program_stays() -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:
        with exit_on_sigterm():
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [signal.SIGTERM]


def test_other_threads_have_no_handlers() -> None:
    found: list[object] = []

    def look() -> None:
        with exit_on_sigterm():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [signal.SIG_DFL]
