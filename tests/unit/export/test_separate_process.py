"""Modules in processes of their own: what they write, how they fail; work that memory is too short for."""

from __future__ import annotations

from pathlib import Path

import pytest

import sdk
from codec_contract.errors import ExportError
from export import separate_process
from export.separate_process import require_memory, run_module


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path / "some_module.py"


def test_a_module_gets_its_arguments_and_the_import_path(module: Path, tmp_path: Path) -> None:
    module.write_text("import pathlib, sys\npathlib.Path(sys.argv[1]).write_text(sys.argv[2])\n")
    run_module("some_module", tmp_path / "out", "7")
    assert (tmp_path / "out").read_text() == "7"


def test_nothing_is_imported_from_the_current_directory(module: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                                                        ) -> None:
    module.write_text("import pathlib, sdk, sys\npathlib.Path(sys.argv[1]).write_text(sdk.__file__)\n")
    (tmp_path / "elsewhere" / "sdk").mkdir(parents=True)
    (tmp_path / "elsewhere" / "sdk" / "__init__.py").touch()
    monkeypatch.chdir(tmp_path / "elsewhere")
    run_module("some_module", tmp_path / "out")
    assert (tmp_path / "out").read_text() == sdk.__file__


@pytest.mark.parametrize(("content", "message"), [
    ("raise ValueError('no decoder')", "process of some_module failed: ValueError: no decoder"),
    ("import sys; sys.exit(3)", "failed: no message"),
    ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", r"killed by signal 9, .* memory was short \(.* larger"),
])
def test_failures_are_typed(module: Path, content: str, message: str) -> None:
    module.write_text(content)
    with pytest.raises(ExportError, match=message):
        run_module("some_module")


def test_work_is_refused_with_the_number_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(separate_process, "available_memory", lambda: 3 * 10**9)
    require_memory(3 * 10**9, "exporting")
    with pytest.raises(ExportError, match=r"^exporting needs about 4\.2 GB of memory, 3\.0 GB are available; close"):
        require_memory(4_200_000_000, "exporting")
    monkeypatch.setattr(separate_process, "available_memory", lambda: None)
    require_memory(10**15, "exporting")
