"""Transfers to a GPU host within a limit, and libraries with the kernels of one architecture."""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def program(repository: Path) -> Iterator[ModuleType]:
    sys.path.insert(0, str(repository / "benchmarks"))
    try:
        import gpu_transfers

        yield gpu_transfers
    finally:
        sys.path.remove(str(repository / "benchmarks"))


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


def test_transfers_stay_within_the_limit(program: ModuleType) -> None:
    folders = {"first": 30, "second": 30, "pack": 20}
    assert program.transfers(10, folders, 64) == [(["first"], 40), (["second", "pack"], 60)]
    assert program.transfers(10, folders, 100) == [(["first", "second", "pack"], 90)]
    assert program.transfers(10, {"first": 60}, 64) == [(["first"], 70)]  # more than the limit: refused


def test_what_is_packed_already_is_summed(program: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                          capsys: pytest.CaptureFixture[str]) -> None:
    pack = tmp_path / "pack"
    for name, size in (("pack", 3), ("parts_0", 30), ("parts_1", 30)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(bytes(size << 20))
    monkeypatch.setattr(program, "PARTS", tmp_path / "parts")
    monkeypatch.setattr(program, "checkout_bytes", lambda: 10 << 20)
    monkeypatch.setattr(sys, "argv", ["gpu_transfers.py", str(pack), "--sum"])
    assert program.main() == 0
    assert "transfer 2: 43.0 of 64 MiB: checkout, parts_1, pack" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["gpu_transfers.py", str(pack), "--sum", "--limit", "39"])
    assert program.main() == 1
