"""The table of quality in the README is that of the default bundle's results."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest


def test_the_readme_shows_the_stored_results(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(repository / "benchmarks" / "speed")
    figures = importlib.import_module("readme_figures")
    lines = figures.quality(figures.load_manifest(figures.find_bundle()))
    assert figures.wrapped("\n".join(lines)) in (repository / "README.md").read_text()
