"""The table of docs/devices.md is that of results/devices, and a new report replaces the older one."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture
def devices_page(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(repository / "benchmarks" / "speed")
    return importlib.import_module("devices_page")


def report(**changes: Any) -> dict[str, Any]:
    return {
        "schema": 1, "platform": "web", "device": "A phone", "runtime": "wasm", "threads": 2, "bundle": "faces",
        "lr_contract_id": "00", "checked": 12, "failed": [],
        "encode_ms": {"runs": 3, "median": 7.06, "least": 5, "most": 9}, **changes}


def test_reports_become_rows(devices_page: ModuleType, tmp_path: Path) -> None:
    devices_page.add([report(), report(threads=1, date="2026-01-02")], tmp_path)
    devices_page.add([report(date="2026-01-03", failed=["black"]), report(platform="ios", date="2026-01-04")], tmp_path)
    devices_page.add([report(threads=0, date="2026-01-05")], tmp_path, device="Another phone")
    assert [path.name for path in sorted(tmp_path.iterdir())] == [
        "ios-a-phone.json", "web-a-phone.json", "web-another-phone.json"]
    assert len(json.loads((tmp_path / "web-a-phone.json").read_text())) == 2
    assert devices_page.table(tmp_path).splitlines()[2:] == [
        "| A phone (ios) | wasm | 2 | `faces` | 12 of 12 | 7.1 (5.0) | 2026-01-04 |",
        "| A phone (web) | wasm | 1 | `faces` | 12 of 12 | 7.1 (5.0) | 2026-01-02 |",
        "| A phone (web) | wasm | 2 | `faces` | **differs: black** | 7.1 (5.0) | 2026-01-03 |",
        "| Another phone (web) | wasm |  | `faces` | 12 of 12 | 7.1 (5.0) | 2026-01-05 |"]


def test_the_page_shows_the_stored_reports(devices_page: ModuleType) -> None:
    assert list(devices_page.RESULTS.glob("*.json"))
    assert f"<!-- figures -->\n\n{devices_page.table(devices_page.RESULTS)}\n\n<!-- /figures -->" in (
        devices_page.PAGE.read_text())
