"""Runs tests in a process on the fake device."""

from __future__ import annotations

import re
import sys

import pytest

from tests.fake_cuda.environment import FakeCuda

SECONDS = 400  # on a machine that does other work; alone each file takes a minute


def run_tests(fake_cuda: FakeCuda, *arguments: str) -> int:
    """The number of tests that passed; fails if one failed, skips if all were skipped."""
    command = [sys.executable, "-m", "pytest", "--no-header", "-p", "no:cacheprovider", *arguments]
    done = fake_cuda.run(command, SECONDS)
    print(f"onnxruntime-gpu {fake_cuda.version} on the fake device\n{done.stdout}{done.stderr}")
    counts = {kind: int(number) for number, kind in re.findall(r"(\d+) (passed|skipped|failed|error)", done.stdout)}
    if done.returncode:
        failed = re.findall(r"^(?:FAILED|ERROR) .*", done.stdout, re.M)
        pytest.fail("\n".join(failed) or f"exit status {done.returncode}", pytrace=False)
    if not counts.get("passed"):
        pytest.skip("; ".join(re.findall(r"^SKIPPED .*", done.stdout, re.M)) or fake_cuda.no_ops)
    return counts["passed"]
