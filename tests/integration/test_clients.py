"""The clients in other languages: their golden files are what Python computes, and their own tests pass."""

from __future__ import annotations

import importlib.util
from pathlib import Path


def test_golden_files_are_what_python_computes(repository: Path, default_bundle: Path) -> None:
    golden = repository / "tests" / "golden"
    spec = importlib.util.spec_from_file_location("regenerate_clients", golden / "regenerate_clients.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    files = script.golden_files()
    assert {path.name for path in (golden / "clients").iterdir()} == set(files)
    for name, data in files.items():
        assert (golden / "clients" / name).read_bytes() == data, f"{name} is not what Python computes"
