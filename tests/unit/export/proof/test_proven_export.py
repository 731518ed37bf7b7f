from __future__ import annotations

import io

import pytest
from rich.console import Console

from export.proof import proven_export
from export.proof.proven_export import ExportProgress


def lines(text: io.StringIO) -> list[str]:
    return text.getvalue().splitlines()


def test_without_a_terminal_every_step_ends_in_a_line_with_its_seconds() -> None:
    written = io.StringIO()
    with ExportProgress(Console(file=written, force_terminal=False)) as progress:
        progress.step("writing encoder.tflite")
        assert not lines(written)
        advance = progress.count("comparing", 40)
        assert lines(written) == ["writing encoder.tflite, 0 s"]
        advance(16)
    assert lines(written) == ["writing encoder.tflite, 0 s", "comparing, 0 s"]


def test_a_long_step_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proven_export, "LINE_EVERY", 0.0)
    written = io.StringIO()
    with ExportProgress(Console(file=written, force_terminal=False)) as progress:
        advance = progress.count("comparing", 40)
        for done in (16, 16, 8):
            advance(done)
    assert lines(written) == ["comparing: 16 of 40, 0 s", "comparing: 32 of 40, 0 s", "comparing, 0 s"]


def test_a_step_that_fails_is_not_reported_as_done() -> None:
    written = io.StringIO()
    with pytest.raises(ValueError), ExportProgress(Console(file=written, force_terminal=False)) as progress:
        progress.step("writing encoder.tflite")
        raise ValueError
    assert not lines(written)


def test_a_terminal_shows_bars_instead_of_lines() -> None:
    written = io.StringIO()
    with ExportProgress(Console(file=written, force_terminal=True, width=100)) as progress:
        progress.count("comparing", 40)(16)
    assert "16/40" in written.getvalue() and "comparing, 0 s" not in written.getvalue()


def test_without_a_console_nothing_is_shown(capfd: pytest.CaptureFixture[str]) -> None:
    with ExportProgress(None) as progress:
        progress.step("writing")
        progress.count("comparing", 2)(2)
    assert capfd.readouterr() == ("", "")
