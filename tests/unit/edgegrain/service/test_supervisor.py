"""Workers that die, hang, lie or refuse, on the stub of `tests/stub_worker.py`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from codec_contract.errors import ImageError, ServiceError
from edgegrain.service import supervisor as module
from edgegrain.service.batcher import Batcher
from edgegrain.service.capacity import Capacity
from edgegrain.service.job import BatchKey, Done, Job, Refused, WorkerLost
from edgegrain.service.supervisor import Supervisor
from edgegrain.service.worker_handle import WorkerHandle, WorkerPlan
from edgegrain.service.worker_protocol import error_of, read_answer, read_decoders, read_warm_up
from sdk.open_bundle import RunningDecoder
from tests.service_harness import SOON, stub_worker


def plan(command: Sequence[str], *, batch_timeout: float = SOON, start_timeout: float = SOON) -> WorkerPlan:
    return WorkerPlan({}, start_timeout=start_timeout, batch_timeout=batch_timeout, command=command)


def job(data: bytes = b"payload", seconds: float = SOON) -> Job:
    loop = asyncio.get_running_loop()
    return Job(BatchKey("restore", "a"), data, {}, loop.time() + seconds, 1, loop.create_future())


class Running:
    """A supervisor with its queue."""

    def __init__(self, workers: WorkerPlan, count: int = 1, spares: int = 0) -> None:
        self.batcher = Batcher(limits={"restore": 100}, weights={"restore": 1}, sizes=(1, 2, 4), wait=0.02,
                               max_pixels=1000, capacity=Capacity(count))
        self.batches: list[int] = []
        self.lost = 0
        self.supervisor = Supervisor(
            workers, self.batcher, count, spares=lambda pids: spares * (len(pids) == count),
            on_batch=lambda jobs, seconds, began: self.batches.append(len(jobs)),
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


def test_what_comes_while_a_batch_is_worked_on_goes_together() -> None:
    async def test(subject: Running) -> None:
        await subject.until(lambda: subject.supervisor.ready == 1)
        jobs = [job(b"%d" % index) for index in range(5)]
        subject.batcher.submit(jobs[:1])
        await subject.until(lambda: len(subject.batcher) == 0)
        for later in jobs[1:]:
            subject.batcher.submit([later])
            await asyncio.sleep(0.01)
        assert [(await item.answer).data for item in jobs] == [b"0", b"1", b"2", b"3", b"4"]  # type: ignore[union-attr]
        assert subject.batches == [1, 4]

    run(lambda: Running(plan(stub_worker(fixed=0.5))), test)


def test_a_full_batch_lies_ready_and_survives_the_worker() -> None:
    async def test(subject: Running) -> None:
        await subject.until(lambda: subject.supervisor.ready == 1)
        (first,) = subject.supervisor.pids
        lost, ahead, waiting = ([job(name) for _ in range(4)] for name in (b"lost", b"ahead", b"waiting"))
        subject.batcher.submit([*lost, *ahead, *waiting])
        await subject.until(lambda: len(subject.batcher) <= 4)
        assert subject.batches == []  # two batches are with the worker, neither is done
        os.kill(first, signal.SIGKILL)
        assert [type(await item.answer) for item in lost] == [WorkerLost] * 4
        for item in (*ahead, *waiting):
            assert (await item.answer).data == item.data  # type: ignore[union-attr]
        assert subject.lost == 1 and subject.batches == [4, 4]

    run(lambda: Running(plan(stub_worker(fixed=0.5))), test)


def test_batches_ahead_are_answered_in_order() -> None:
    async def test(subject: Running) -> None:
        jobs = [job(b"%d" % index) for index in range(40)]
        subject.batcher.submit(jobs)
        assert [(await item.answer).data for item in jobs] == [item.data for item in jobs]  # type: ignore[union-attr]
        assert subject.batches == [4] * 10

    run(lambda: Running(plan(stub_worker())), test)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_sending_to_a_dead_worker(loop: str) -> None:
    async def test() -> None:
        worker = await WorkerHandle.start(plan(stub_worker()))
        worker.process.kill()
        await worker.process.wait()
        with pytest.raises(WorkerLost, match="died or broke its pipe"):
            for _ in range(30):  # until the loop has noticed
                worker.send([job()])
                await asyncio.sleep(0.01)
            await worker.receive(1)
        await worker.stop(0)

    if loop == "asyncio":
        asyncio.run(test())
    else:
        pytest.importorskip("uvloop", reason="not on this platform").run(test())


@pytest.mark.parametrize(("fields", "reason"), [
    ({}, "answer is invalid: KeyError"), ({"outcomes": None, "seconds": {}}, "answer is invalid: TypeError"),
    ({"outcomes": [None, None], "seconds": {}}, "answered 2 of 1"),
    ({"outcomes": [None], "seconds": 3}, "answer is invalid: TypeError"),
    ({"outcomes": [None], "seconds": {"decode": "long"}}, "answer is invalid: ValueError"),
    ({"outcomes": [None], "seconds": {"decode": 10**400}}, "answer is invalid: OverflowError"),
    ({"outcomes": ["ImageError"], "seconds": {}}, "answer is invalid: TypeError"),
    ({"outcomes": [{"error": "ImageError"}], "seconds": {}}, "answer is invalid: KeyError")])
def test_invalid_answers_are_refused(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(WorkerLost, match=reason):
        read_answer((fields, [b"data"]), 1)


def test_stages_that_are_not_known_are_not_passed_on() -> None:
    fields = {"outcomes": [None], "seconds": {"decode": 0.5, "x\r\nSet-Cookie: a": 1, "write": 1}}
    answers, seconds = read_answer((fields, [b"data"]), 1)
    assert seconds == {"decode": 0.5, "write": 1.0} and answers == [Done(b"data", seconds)]


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


def test_a_spare_takes_over_at_once() -> None:
    async def test(subject: Running) -> None:
        await subject.until(lambda: subject.supervisor.spares == 1)
        (first,), (spare,) = subject.supervisor.pids, subject.supervisor._spares
        lost, waiting = [job() for _ in range(4)], [job(b"later") for _ in range(3)]
        subject.batcher.submit(lost)
        await subject.until(lambda: len(subject.batcher) == 0)
        subject.batcher.submit(waiting)
        os.kill(first, signal.SIGKILL)
        assert [type(await item.answer) for item in lost] == [WorkerLost] * 4
        assert [(await item.answer).data for item in waiting] == [b"later"] * 3  # type: ignore[union-attr]
        assert subject.supervisor.pids == [spare.process.pid]
        await subject.until(lambda: subject.supervisor.spares == 1)  # the next one
        assert subject.supervisor.ready == 1

    run(lambda: Running(plan(stub_worker(fixed=0.2, start=0.5)), spares=1), test)


def test_a_worker_that_finds_a_place_is_never_a_spare() -> None:
    async def test(subject: Running) -> None:
        seen = set()
        while not subject.supervisor.ready:
            seen.add(subject.supervisor.spares)
            await asyncio.sleep(0)
        assert seen == {0}

    run(lambda: Running(plan(stub_worker())), test)


def test_a_spare_that_dies_is_replaced() -> None:
    async def test(subject: Running) -> None:
        await subject.until(lambda: subject.supervisor.spares == 1)
        (spare,) = subject.supervisor._spares
        spare.process.kill()
        await subject.until(lambda: spare not in subject.supervisor._spares)
        await subject.until(lambda: subject.supervisor.spares == 1)
        assert subject.lost == 1 and isinstance((await subject.answers(b"x"))[0], Done)

    run(lambda: Running(plan(stub_worker()), spares=1), test)


def test_without_a_spare_the_hasty_are_refused_when_the_worker_is_lost() -> None:
    async def test(subject: Running) -> None:
        await subject.until(lambda: subject.supervisor.ready == 1)
        lost, hasty, patient = [job() for _ in range(4)], job(seconds=30), job(b"patient")
        subject.batcher.submit(lost)
        await subject.until(lambda: len(subject.batcher) == 0)
        subject.batcher.capacity.start_seconds = 50.0  # the real starts are quick
        subject.batcher.submit([hasty])
        subject.batcher.submit([patient])
        os.kill(*subject.supervisor.pids, signal.SIGKILL)
        refused = await hasty.answer
        assert isinstance(refused, Refused) and refused.reason == "starting"
        assert 49 <= refused.retry_after <= 51 and hasty.deadline > asyncio.get_running_loop().time()
        assert (await patient.answer).data == b"patient"  # type: ignore[union-attr]

    run(lambda: Running(plan(stub_worker(fixed=0.5))), test)


def test_warm_ups_are_the_first_estimates() -> None:
    assert read_warm_up({"ready": True}) == []
    assert read_warm_up({"warm_up": [["restore", "a", 8, 2, 1]]}) == [("restore", "a", 8, 2.0, 1)]
    for wrong in (3, [3], [["restore", "a", 8, 2]], [["restore", "a", "x", 2, 1]]):
        with pytest.raises(WorkerLost, match="is invalid"):
            read_warm_up({"warm_up": wrong})


def test_decoders_of_a_worker() -> None:
    described = {"file": "decoder.onnx", "precision": "float32", "ops": "plain", "device": "cpu",
                 "provider": "CPUExecutionProvider", "graphs": False, "reason": ""}
    assert read_decoders({"ready": True}) == {}
    assert read_decoders({"decoders": {"a": described}}) == {"a": RunningDecoder(**described)}  # type: ignore[arg-type]
    for wrong in (3, {"a": 3}, {"a": {}}, {"a": {**described, "more": 1}}, {"a": {**described, "file": 1}},
                  {"a": {**described, "graphs": "yes"}}, {"a": {**described, "reason": "x" * 3000}}):
        with pytest.raises(WorkerLost, match="message that it is ready"):
            read_decoders({"decoders": wrong})


@pytest.mark.parametrize(("command", "message"), [
    ([sys.executable, "-c", "pass"], "died"),
    ([sys.executable, "-c", "import time; time.sleep(60)"], "within 0.5 s"),
    ([sys.executable, "-c", "print('hello, this is no frame at all')"], "claims|message")])
def test_a_worker_that_does_not_start(command: list[str], message: str) -> None:
    with pytest.raises(WorkerLost, match=message):
        asyncio.run(WorkerHandle.start(plan(command, start_timeout=0.5 if "sleep" in command[2] else SOON)))


def test_starts_are_repeated_with_growing_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    starts: list[float] = []

    async def refuse(plan: WorkerPlan) -> WorkerHandle:
        starts.append(asyncio.get_running_loop().time())
        raise ServiceError("no")

    monkeypatch.setattr(WorkerHandle, "start", refuse)
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.02)

    async def test(subject: Running) -> None:
        await subject.until(lambda: len(starts) == 4)
        pauses = [after - before for before, after in zip(starts, starts[1:], strict=False)]
        assert pauses[0] >= 0.02 and pauses[1] >= 0.04 and pauses[2] >= 0.08

    run(lambda: Running(plan([])), test)


def test_workers_do_not_see_the_service_s_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGEGRAIN_SERVE_TOKENS", "secret")
    monkeypatch.setenv("edgegrain_serve_tokens_file", "secret")
    monkeypatch.setenv("EDGEGRAIN_OTHER", "public")
    monkeypatch.delenv("EDGEGRAIN_CACHE")
    program = ("import os, server_decoder; "
               "names = sorted(name for name in os.environ if 'EDGEGRAIN' in name.upper()); "
               f"open({str(tmp_path / 'seen')!r}, 'w').write(str(names))")
    with pytest.raises(WorkerLost):
        asyncio.run(WorkerHandle.start(plan([sys.executable, "-c", program])))
    assert (tmp_path / "seen").read_text() == "['EDGEGRAIN_OTHER']"


def test_errors_come_back_as_what_they_were() -> None:
    error = error_of({"error": "ImageError", "message": "too large"})
    assert type(error) is ImageError and str(error) == "too large"
    for name in ("annotations", "KeyboardInterrupt", "__doc__", ""):
        assert type(error_of({"error": name, "message": "x"})) is ServiceError
