"""The program that measures a training step, on a small recipe."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest


def test_a_step_is_measured(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(repository / "benchmarks" / "speed")
    program = importlib.import_module("training_step")
    arguments = ["training_step", "smoke-stage1", "--batch", "2", "--device", "cpu", "--steps"]
    monkeypatch.setattr("sys.argv", [*arguments, "2"])
    program.main()
    found = json.loads(capsys.readouterr().out)
    assert (found["recipe"], found["batch"], found["device"], found["skipped"]) == ("smoke-stage1", 2, "cpu", 0)
    assert 0 < found["step_s"] <= found["longest_s"] and 0.1 < found["peak_gb"] < 30
    assert found["pictures_per_s"] > 0
    monkeypatch.setattr("sys.argv", [*arguments, "1"])
    with pytest.raises(SystemExit, match="2"):
        program.main()
    assert "at least 2" in capsys.readouterr().err
