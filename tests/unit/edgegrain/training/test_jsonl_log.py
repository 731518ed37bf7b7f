"""Rows of a training log are lines, also after one that was cut off."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgegrain.training.jsonl_log import JsonlLog


@pytest.mark.parametrize(("before", "after"), [
    ("", ""), ('{"a": 1}\n', '{"a": 1}\n'), ('{"a": 1, "b', '{"a": 1, "b\n')])
def test_a_row_is_a_line(before: str, after: str, tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text(before)
    JsonlLog(tmp_path / "log.jsonl").write({"loss": 0.1234567})
    assert (tmp_path / "log.jsonl").read_text() == after + '{"loss": 0.12346}\n'
