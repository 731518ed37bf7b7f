"""Libraries with the kernels of one GPU architecture, for a host that takes small transfers."""

from __future__ import annotations

import importlib
import struct
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def program(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(repository / "benchmarks" / "speed")
    return importlib.import_module("pack")


def entry(architecture: int, payload: bytes) -> bytes:
    """A kernel in a fat binary: a header of 64 bytes, and the code."""
    return struct.pack("<HHIQ12xI32x", 2, 0x101, 64, len(payload), architecture) + payload


def container(*entries: bytes) -> bytes:
    content = b"".join(entries)
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(content)) + content


def test_kernels_of_other_architectures_are_removed(program: ModuleType) -> None:
    kept, other = entry(90, b"k" * 40), entry(80, b"o" * 88)
    without = container(other)
    section = container(other, kept, other) + bytes(8) + without
    found = program.keep_architecture(section, 90)
    assert len(found) == len(section)
    whole = container(kept)
    assert found.startswith(whole) and not any(found[len(whole) : -len(without)])
    assert found.endswith(without)  # it may have code for newer devices
