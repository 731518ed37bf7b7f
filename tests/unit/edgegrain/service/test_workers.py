"""Workers that die, hang, lie or refuse, on the stub of `tests/stub_worker.py`; and those whose GPU fails."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

import sdk
from edgegrain.service import workers as module
from edgegrain.service.batcher import Batcher, BatchKey, Done, Job
from edgegrain.service.engine import RestoreOptions
from edgegrain.service.observability import ServiceMetrics
from edgegrain.service.settings import Settings
from edgegrain.service.workers import COMMAND, Workers, environment
from tests.service_harness import SOON, stub_worker

ENGINE = (
    sys.executable,
    "-c",
    """
import sys
from codec_contract import errors
from edgegrain.service import engine as worker

class Engine:
    def __init__(self, graphs=True, **fields):
        self.lost, self.graphs = False, graphs

    def warm_up(self):
        return [("restore", "a", 1, 0.25)]

    def restore(self, bundle, payloads, options, measure):
        names = [payload.decode() for payload in payloads]
        self.lost = self.lost or "DeviceError" in names
        if self.lost:
            return [errors.DeviceError("an illegal memory access")] * len(names)
        return [getattr(errors, name)("no") if hasattr(errors, name) else b"%d" % self.graphs if name == "graphs?"
                else name.encode() for name in names]

worker.Engine = Engine
sys.exit(worker.main())
""",
)
"""A worker whose engine returns its input, or the error of that name; after a `DeviceError` it has no other answer."""


class Running:
    """Workers with their queue."""

    def __init__(self, command: Sequence[str], **settings: Any) -> None:
        usual = {"deadline": SOON, "batch_sizes": (1, 2, 4), "worker_timeout": SOON, "log_level": "error"}
        found = Settings(**{**usual, **settings})
        metrics = ServiceMetrics()
        self.batcher = Batcher(found, metrics)
        with patch.object(module, "COMMAND", command):
            self.workers = Workers(found, metrics, self.batcher, [])
        self.lost = metrics.worker_losses._value.get

    async def answers(self, *data: bytes) -> list[Any]:
        jobs = [Job(BatchKey("restore", "a"), item, RestoreOptions(), 1) for item in data]
        self.batcher.submit(jobs)
        return [await job.answer for job in jobs]

    async def until(self, condition: Callable[[], Any]) -> None:
        while not condition():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def running(*arguments: Any, **options: Any) -> AsyncIterator[Running]:
    subject = Running(*arguments, **options)
    subject.workers.start()
    try:
        yield subject
    finally:
        await subject.workers.stop()
    assert not subject.workers.pids


def kinds(answers: Sequence[Any]) -> list[str]:
    return ["done" if isinstance(answer, Done) else answer.kind for answer in answers]


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"die!123", "died or broke its pipe"), (b"hang123", "within 0.5 s"), (b"lie!123", "died or broke its pipe")],
)
async def test_mischief_costs_one_batch(data: bytes, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    async with running(stub_worker(), worker_timeout=0.5) as subject:
        (answer,) = await subject.answers(data)
        assert answer.kind == "worker-lost" and int(answer.headers["Retry-After"]) >= 1
        await subject.until(lambda: reason in "".join(str(vars(record)["fields"]) for record in caplog.records))
        (answer,) = await subject.answers(b"fine")
        assert isinstance(answer, Done) and subject.lost() == 1


async def test_two_workers_share_the_work() -> None:
    async with running(stub_worker(fixed=0.5), workers=2) as subject:
        await subject.until(lambda: len(subject.workers.pids) == 2)
        start = asyncio.get_running_loop().time()
        await subject.answers(*[b"x"] * 16)  # four batches
        assert asyncio.get_running_loop().time() - start < 4 * 0.5


async def test_a_failure_of_the_gpu_ends_the_worker_and_its_graphs(caplog: pytest.LogCaptureFixture) -> None:
    async with running(ENGINE, batch_sizes=(1,), device="cuda") as subject:
        await subject.until(lambda: subject.workers.pids)
        assert subject.batcher.expected("restore") == 0.25  # of the warm-up
        answers = await subject.answers(b"DeviceMemoryError", b"graphs?", b"DeviceError", b"graphs?", b"later")
        assert kinds(answers) == ["worker-lost", "done", "worker-lost", "done", "done"]
        assert [answer.data for answer in answers[1::2]] == [b"1", b"0"] and subject.lost() == 1
        assert "the next worker runs without CUDA graphs" in str([vars(each)["fields"] for each in caplog.records])


async def test_on_a_cpu_a_worker_goes_on() -> None:
    async with running(ENGINE, batch_sizes=(1,)) as subject:
        assert kinds(await subject.answers(b"DeviceError", b"more")) == ["worker-lost"] * 2
        assert subject.lost() == 0


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("pass", "died"),
        ("import time; time.sleep(60)", "within 0.5 s"),
        ("print('hello, this is no message')", "broke its pipe"),
        ("print('[3]')", "broke its pipe"),
        ("print('{\"lengths\": []}')", "warm_up"),
        ('print(\'{"lengths": [], "failed": "no"}\')', "no"),
    ],
)
async def test_a_worker_that_does_not_start(
    program: str, message: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(module, "LOST_SECONDS", 0.05)
    caplog.set_level("ERROR")
    timeout = 0.5 if "sleep" in program else SOON
    async with running([sys.executable, "-c", program], start_timeout=timeout) as subject:
        await subject.until(lambda: len(caplog.records) >= 3)
    fields = [vars(record)["fields"] for record in caplog.records]
    assert all(message in each["reason"] for each in fields)
    assert [each["next_try_seconds"] for each in fields[:3]] == [0.05, 0.1, 0.2]


def test_workers_do_not_see_the_service_s_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEGRAIN_SERVE_TOKENS", "secret")
    monkeypatch.setenv("edgegrain_serve_tokens_file", "secret")
    monkeypatch.setenv("EDGEGRAIN_OTHER", "public")
    monkeypatch.delenv("EDGEGRAIN_CACHE", raising=False)
    assert [name for name in environment() if "EDGEGRAIN" in name.upper()] == ["EDGEGRAIN_OTHER"]


def test_a_worker_imports_nothing_from_the_current_directory(tmp_path: Path) -> None:
    (tmp_path / "sdk").mkdir()
    (tmp_path / "sdk" / "__init__.py").touch()
    python = COMMAND[: COMMAND.index("-m")]
    command = [*python, "-c", "import sdk; print(sdk.__file__)"]
    assert subprocess.check_output(command, cwd=tmp_path, env=environment(), text=True).strip() == sdk.__file__
