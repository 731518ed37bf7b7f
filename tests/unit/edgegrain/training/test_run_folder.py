"""Default folders of runs, and the test if a run is finished."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgegrain.training.run_folder import CHECKPOINT, finished, run_folder


def test_a_new_run_takes_a_new_folder_and_a_resumed_one_the_last(monkeypatch: pytest.MonkeyPatch, tmp_path: Path
                                                                 ) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_folder("smoke", Path("mine")) == Path("mine")
    assert run_folder("smoke") == run_folder("smoke", resume=True) == Path("runs/smoke")
    for name in ("smoke", "smoke-2"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "log.jsonl").touch()
    assert run_folder("smoke") == Path("runs/smoke-3")
    assert run_folder("smoke", resume=True) == Path("runs/smoke-2")
    assert run_folder("other") == Path("runs/other")


def test_a_run_of_several_stages_takes_a_folder_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "smoke" / "stage1").mkdir(parents=True)
    (tmp_path / "runs" / "smoke" / "stage1" / "log.jsonl").touch()
    assert run_folder("smoke") == Path("runs/smoke-2")
    assert run_folder("smoke", resume=True) == Path("runs/smoke")


@pytest.mark.parametrize(("last", "expected"), [('{"pictures": 8, "end": true}', True), ('{"end": false}', False),
                                                ('{"pictures": 8}', False), ("", False), ('{"pictures": 8, "e', False)])
def test_a_run_is_finished_if_it_ended_by_itself(last: str, expected: bool, tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text(last)
    assert not finished(tmp_path)
    (tmp_path / CHECKPOINT).touch()
    assert finished(tmp_path) == expected
