"""Providers change state of the process, so one thread at a time does it."""

import sys
import time
from concurrent.futures import ThreadPoolExecutor

import onnxruntime
import pytest

from server_decoder import providers
from server_decoder.providers import limited_arena, preload_cuda, session_options


def test_libraries_are_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[bool] = []

    def preload() -> None:
        time.sleep(0.02)  # the other threads call meanwhile
        loaded.append(sys.stdout is not before)

    before = sys.stdout
    monkeypatch.setattr(onnxruntime, "preload_dlls", preload)
    providers._preload.cache_clear()
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: preload_cuda(), range(4)))
    assert loaded == [True] and sys.stdout is before


def test_a_session_gets_its_own_arena(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    monkeypatch.setattr(onnxruntime, "create_and_register_allocator", lambda *arguments: steps.append("registered"))

    def create(_: int) -> None:
        with limited_arena(session_options("cpu", 1), 1 << 20):
            time.sleep(0.02)
            steps.append("created")

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(create, range(2)))
    assert steps == ["registered", "created"] * 2
