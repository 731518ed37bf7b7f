"""Lines that native code writes to file descriptor 2 are dropped, kept, or captured."""

from __future__ import annotations

import os
import sys
import threading

import pytest

from codec_contract.onnx_runtime import captured_stderr, without_lines


def test_captured(capfd: pytest.CaptureFixture[str]) -> None:
    with captured_stderr() as said:
        os.write(2, b"native\n")
        assert said() == "native\n"
        os.write(2, b"more\n")
        assert said() == "native\nmore\n"
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


def test_matching_lines_are_dropped(capfd: pytest.CaptureFixture[str]) -> None:
    with without_lines("^INFO: "):
        os.write(2, b"INFO: created a delegate\nWARNING: INFO: is missing\n")
    with pytest.raises(ValueError), without_lines("^INFO: "):
        os.write(2, b"INFO: again\nERROR: out of memory\n")
        raise ValueError
    assert capfd.readouterr().err == "WARNING: INFO: is missing\nERROR: out of memory\n"


def test_threads_do_not_lose_the_descriptor(capfd: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        for _ in range(20):
            with without_lines("INFO"):
                os.write(2, b"INFO\n")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.write(2, b"here\n")
    assert capfd.readouterr().err == "here\n"


def test_without_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", None)
    ran: list[object] = []
    with without_lines("INFO"):
        ran.append(sys.stderr)
    with captured_stderr() as said:
        ran.append(said())
    assert ran == [None, ""]
