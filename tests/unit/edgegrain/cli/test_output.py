"""Errors become one line on stderr and an exit code."""

from pathlib import Path

import pytest
import typer

from codec_contract.errors import BundleError, ServiceError
from codec_contract.files import write_atomically
from edgegrain.cli import output
from edgegrain.cli.output import errors_to_exit_codes, with_progress


def test_a_file_that_exists_is_reported_with_the_option_that_replaces_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "kept.bin"
    write_atomically(path, b"old")
    with pytest.raises(typer.Exit) as stop, errors_to_exit_codes():
        write_atomically(path, b"new")
    assert stop.value.exit_code == 1 and path.read_bytes() == b"old"
    assert capsys.readouterr().err == f"error: {path} exists; choose another name, or pass --force to replace it\n"


def test_other_errors_are_reported_on_one_printable_line(capsys: pytest.CaptureFixture[str]) -> None:
    odd = "\x1b\x07two\x9b \u202elines\x7f"
    for error in (BundleError("two\n  lines"), OSError("two\nlines"), ServiceError(odd)):
        with pytest.raises(typer.Exit) as stop, errors_to_exit_codes():
            raise error
        said = r"\x1b\x07two\x9b \u202elines\x7f" if str(error) == odd else "two lines"
        assert stop.value.exit_code == 1 and capsys.readouterr().err == f"error: {said}\n"


def test_long_work_says_where_it_is_without_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for silence, said in ((60.0, ""), (0.0, "measuring 1/2: 0%\nmeasuring 2/2: 50%\n")):
        monkeypatch.setattr(output, "SILENCE", silence)
        assert list(with_progress(range(2), "measuring")) == [0, 1] and capsys.readouterr().err == said


def test_of_several_processes_the_first_shows_progress(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "SILENCE", 0.0)
    for rank, said in (("0", "fitting: 50%\n"), ("1", "")):
        monkeypatch.setenv("RANK", rank)
        with output.progress_bar() as show:
            show(0.5, "fitting")
        assert capsys.readouterr().err == said
