"""Output of native code is captured; cores of containers."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from codec_contract import onnx_runtime
from codec_contract.onnx_runtime import available_cores, captured_stderr, set_threads


def test_captured(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with captured_stderr() as said:
        os.write(2, b"native\n")
        assert said() == "native\n"
        os.write(2, b"more\n")
        assert said() == "native\nmore\n"
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"
    monkeypatch.setattr("sys.stderr", None)
    with captured_stderr() as said:
        assert said() == ""


def test_threads_do_not_lose_the_descriptor(capfd: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        for _ in range(20):
            with pytest.raises(ValueError), captured_stderr():
                os.write(2, b"INFO\n")
                raise ValueError

    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(work) for _ in range(4)]:
            done.result()
    os.write(2, b"here\n")
    assert capfd.readouterr().err == "here\n"


@pytest.mark.parametrize(
    ("quota", "cores"), [("250000 100000", 2), ("50000 100000", 1), ("max 100000", 64), ("nonsense", 64), (None, 64)]
)
def test_quotas_of_containers(quota: str | None, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if quota is not None:
        (tmp_path / "cpu.max").write_text(f"{quota}\n")
    monkeypatch.setattr(onnx_runtime, "QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(onnx_runtime, "available_cores", available_cores)  # other tests run on one core
    assert available_cores() == cores
    options = SimpleNamespace(intra_op_num_threads=0)
    set_threads(options, None)
    assert options.intra_op_num_threads == (0 if cores == 64 else cores)  # 0: all
    set_threads(options, 7)
    assert options.intra_op_num_threads == 7
