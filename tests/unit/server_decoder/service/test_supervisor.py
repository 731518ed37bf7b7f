"""Workers that die, hang, lie or refuse, on the stub of `tests/stub_worker.py`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from edgegrain.contract.errors import ImageError, ServiceError
from server_decoder.service import supervisor as module
from server_decoder.service.batcher import Batcher, Done, Job, Key, WorkerLost
from server_decoder.service.supervisor import Supervisor, Worker, WorkerPlan, error_of
from tests.service_harness import SOON, stub_worker


def plan(command: Sequence[str], *, batch_timeout: float = SOON, start_timeout: float = SOON) -> WorkerPlan:
    return WorkerPlan({}, start_timeout=start_timeout, batch_timeout=batch_timeout, command=command)


def job(data: bytes = b"payload") -> Job:
    loop = asyncio.get_running_loop()
    return Job(Key("restore", "a"), data, {}, loop.time() + SOON, 1, loop.create_future())


class Running:
    """A supervisor with its queue."""

    def __init__(self, workers: WorkerPlan, count: int = 1) -> None:
        self.batcher = Batcher(limit=100, sizes=(1, 2, 4), wait=0.02, max_pixels=1000)
        self.batches: list[int] = []
        self.lost = 0
        self.supervisor = Supervisor(
            workers, self.batcher, count, on_batch=lambda jobs, seconds, began: self.batches.append(len(jobs)),
            on_lost=self.count)

    def count(self) -> None:
        self.lost += 1

    async def answers(self, *data: bytes) -> list[object]:
        jobs = [job(item) for item in data]
        self.batcher.submit(jobs)
        return [await item.answer for item in jobs]

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await asyncio.sleep(0.01)


def run(running: Callable[[], Running], test: Callable[[Running], Awaitable[None]]) -> None:
    async def supervised() -> None:
        subject = running()
        subject.supervisor.start()
        try:
            await asyncio.wait_for(test(subject), SOON)  # type: ignore[arg-type]
        finally:
            await subject.supervisor.stop()
        assert subject.supervisor.ready == 0

    asyncio.run(supervised())


def test_batches_are_answered_item_by_item() -> None:
    async def test(subject: Running) -> None:
        answers = await subject.answers(b"a", b"b", b"c", b"d")
        assert [answer.data for answer in answers if isinstance(answer, Done)] == [b"a", b"b", b"c", b"d"]
        assert subject.batches == [4]

    run(lambda: Running(plan(stub_worker())), test)


def test_a_killed_worker_loses_its_batch_and_nothing_else() -> None:
    async def test(subject: Running) -> None:
        await subject.until(lambda: subject.supervisor.ready == 1)
        (first,) = subject.supervisor.pids
        lost, waiting = [job() for _ in range(4)], [job(b"later") for _ in range(3)]
        subject.batcher.submit([*lost, *waiting])
        await subject.until(lambda: len(subject.batcher) == 3)
        os.kill(first, signal.SIGKILL)
        assert [type(await item.answer) for item in lost] == [WorkerLost] * 4
        assert [(await item.answer).data for item in waiting] == [b"later"] * 3  # type: ignore[union-attr]
        assert subject.lost == 1 and subject.supervisor.pids != [first]

    run(lambda: Running(plan(stub_worker(fixed=0.3))), test)


def test_an_idle_worker_that_dies_is_replaced() -> None:
    async def test(subject: Running) -> None:
        await subject.until(lambda: subject.supervisor.ready == 1)
        (first,) = subject.supervisor.pids
        os.kill(first, signal.SIGKILL)
        await subject.until(lambda: first not in subject.supervisor.pids)
        assert isinstance((await subject.answers(b"x"))[0], Done)

    run(lambda: Running(plan(stub_worker())), test)


@pytest.mark.parametrize(("data", "reason"), [
    (b"die!1234", "died or broke its pipe"), (b"hang1234", "within 0.5 s"), (b"lie!1234", "0 of 1 items")])
def test_mischief_costs_one_batch(data: bytes, reason: str) -> None:
    async def test(subject: Running) -> None:
        (answer,) = await subject.answers(data)
        assert isinstance(answer, WorkerLost) and reason in str(answer)
        (answer,) = await subject.answers(b"fine")
        assert isinstance(answer, Done)

    run(lambda: Running(plan(stub_worker(), batch_timeout=0.5)), test)


def test_two_workers_share_the_work() -> None:
    async def test(subject: Running) -> None:
        await subject.until(lambda: subject.supervisor.ready == 2)
        loop = asyncio.get_running_loop()
        start = loop.time()
        await subject.answers(*[b"x"] * 16)  # four batches
        assert loop.time() - start < 4 * 0.5

    run(lambda: Running(plan(stub_worker(fixed=0.5)), count=2), test)


@pytest.mark.parametrize(("command", "message"), [
    ([sys.executable, "-c", "pass"], "died"),
    ([sys.executable, "-c", "import time; time.sleep(60)"], "within 0.5 s"),
    ([sys.executable, "-c", "print('hello, this is no frame at all')"], "claims|message")])
def test_a_worker_that_does_not_start(command: list[str], message: str) -> None:
    with pytest.raises(WorkerLost, match=message):
        asyncio.run(Worker.start(plan(command, start_timeout=0.5 if "sleep" in command[2] else SOON)))


def test_starts_are_repeated_with_growing_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    starts: list[float] = []

    async def refuse(plan: WorkerPlan) -> Worker:
        starts.append(asyncio.get_running_loop().time())
        raise ServiceError("no")

    monkeypatch.setattr(Worker, "start", refuse)
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.02)

    async def test(subject: Running) -> None:
        await subject.until(lambda: len(starts) == 4)
        pauses = [after - before for before, after in zip(starts, starts[1:], strict=False)]
        assert pauses[0] >= 0.02 and pauses[1] >= 0.04 and pauses[2] >= 0.08

    run(lambda: Running(plan([])), test)


def test_workers_do_not_see_the_service_s_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGEGRAIN_SERVE_TOKENS", "secret")
    monkeypatch.setenv("EDGEGRAIN_OTHER", "public")
    program = ("import os, server_decoder; "
               f"open({str(tmp_path / 'seen')!r}, 'w').write(str(sorted(n for n in os.environ if 'EDGEGRAIN' in n)))")
    with pytest.raises(WorkerLost):
        asyncio.run(Worker.start(plan([sys.executable, "-c", program])))
    assert (tmp_path / "seen").read_text() == "['EDGEGRAIN_OTHER']"


def test_errors_come_back_as_what_they_were() -> None:
    error = error_of({"error": "ImageError", "message": "too large"})
    assert type(error) is ImageError and str(error) == "too large"
    for name in ("annotations", "KeyboardInterrupt", "__doc__", ""):
        assert type(error_of({"error": name, "message": "x"})) is ServiceError
