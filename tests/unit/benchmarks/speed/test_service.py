"""The benchmark of the service measures the service and the engine that were asked for."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.tiny_bundle import write_tiny_bundle


@pytest.fixture(scope="module")
def service(repository: Path) -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(repository / "benchmarks" / "speed")
        yield importlib.import_module("service")


@pytest.fixture
def started(service: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Settings of the services and arguments of the engine that a measurement starts; nothing is started."""
    found: list[dict[str, Any]] = []

    @contextmanager
    def running(command: list[str], **settings: object) -> Iterator[SimpleNamespace]:
        found.append({"closed": False, **settings})
        yield SimpleNamespace(url="", closed=found[-1])

    def closed_loop(process: SimpleNamespace, *_: object) -> None:
        process.closed["closed"] = True

    class Engine:
        def __init__(self, folders: list[Path], **arguments: object) -> None:
            found.append({"engine": arguments})

        def warm_up(self) -> None:
            pass

    replaced: dict[str, object] = {
        "running": running, "Engine": Engine, "note": lambda _: None, "portrait_payloads": lambda _: [b""],
        "raw_payloads": lambda *_: [b""], "overhead": lambda *_: (2.0, 1.0),
        "throughput": lambda *arguments: closed_loop(*arguments) or 100.0,
        "soak": lambda *arguments: closed_loop(*arguments) or {
            "requests": 10, "service_mib": [1.0, 1.0], "worker_mib": [1.0, 1.0]},
        "offer": lambda url, payloads, rate, seconds, seed=0: service.Load(rate, rate, 1, 2, 3, {200: 1})}
    for name, value in replaced.items():
        monkeypatch.setattr(service, name, value)
    return found


def test_the_device_and_the_workers_are_those_asked_for(
        service: ModuleType, started: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path)
    monkeypatch.setattr(sys, "argv", ["service.py", "--bundle", str(folder), "--device", "cuda", "--workers", "4",
                                      "--threads", "2"])
    assert service.main() == 0
    shape = {"device": "cuda", "workers": 4, "threads": 2}
    assert "on device `cuda`, 4 workers of 2 threads; requests" in capsys.readouterr().out
    stub = [one for one in started if "bundles" in one]
    (engine,) = (one["engine"] for one in started if "engine" in one)
    served = [one for one in started if "closed" in one and one not in stub]
    assert len(served) == 3 and all(one | shape == one for one in served)
    assert (engine["device"], engine["threads"]) == ("cuda", 2)
    report = service.measure(folder, service.QUICK, **shape)
    assert report == {**report, **shape}


def test_only_services_of_closed_loops_wait(service: ModuleType, started: list[dict[str, Any]], tmp_path: Path) -> None:
    service.measure(write_tiny_bundle(tmp_path), service.QUICK)
    services = [one for one in started if "closed" in one]
    assert [one["closed"] for one in services].count(False) == 1  # the one of the open loop has the default deadline
    assert all(one["closed"] == (one.get("deadline", 0) > 60) for one in services)
