"""The program that measures a training step, on a small recipe."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_a_step_is_measured(repository: Path) -> None:
    program = repository / "benchmarks" / "speed" / "training_step.py"
    run = subprocess.run([sys.executable, program, "smoke-stage1", "--batch", "2", "--steps", "2", "--device", "cpu"],
                         capture_output=True, text=True, check=True)
    found = json.loads(run.stdout)
    assert (found["recipe"], found["batch"], found["device"], found["skipped"]) == ("smoke-stage1", 2, "cpu", 0)
    assert 0 < found["step_s"] <= found["longest_s"] and 0.1 < found["peak_gb"] < 8
    assert found["pictures_per_s"] > 0


def test_a_single_step_is_refused(repository: Path) -> None:
    program = repository / "benchmarks" / "speed" / "training_step.py"
    run = subprocess.run([sys.executable, program, "smoke-stage1", "--steps", "1"], capture_output=True, text=True)
    assert run.returncode == 2 and "at least 2" in run.stderr
