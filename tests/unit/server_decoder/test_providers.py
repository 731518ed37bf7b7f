"""Providers change state of the process, so one thread at a time does it."""

from __future__ import annotations

import sys
import threading
import time

import onnxruntime
import pytest

from server_decoder.providers import limited_arena, preload_cuda, session_options


def test_libraries_are_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[bool] = []

    def preload() -> None:
        time.sleep(0.02)  # the other threads call meanwhile
        loaded.append(sys.stdout is not before)

    before = sys.stdout
    monkeypatch.setattr(onnxruntime, "preload_dlls", preload, raising=False)
    threads = [threading.Thread(target=preload_cuda) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loaded == [True] and sys.stdout is before


def test_a_session_gets_its_own_arena(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    monkeypatch.setattr(onnxruntime, "create_and_register_allocator", lambda *arguments: steps.append("registered"))

    def create() -> None:
        with limited_arena(session_options("cpu", 1), 1 << 20):
            time.sleep(0.02)
            steps.append("created")

    threads = [threading.Thread(target=create) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert steps == ["registered", "created"] * 2
