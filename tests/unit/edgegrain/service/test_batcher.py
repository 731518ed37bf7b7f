"""The queues: batches of compatible jobs, turns, deadlines, estimates, limits."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from edgegrain.service.batcher import ACCEPTED, ROOM, Batcher, BatchKey, Done, Job
from edgegrain.service.engine import RestoreOptions
from edgegrain.service.observability import ServiceMetrics
from edgegrain.service.problems import Problem
from edgegrain.service.settings import Settings

RESTORE, OTHER, COMPRESS = BatchKey("restore", "a"), BatchKey("restore", "b"), BatchKey("compress", "a")
SCENE = RESTORE._replace(faces=2)


def batcher(*, ready_in: Callable[[], float] = lambda: 0.0, **changes: Any) -> Batcher:
    settings = Settings(**{"deadline": 100, "batch_sizes": (1, 2, 4), "max_pixels": 100, "device": "cuda", **changes})
    return Batcher(settings, ServiceMetrics(), ready_in=ready_in)


def job(name: int = 0, key: BatchKey = RESTORE, pixels: int = 1) -> Job:
    return Job(key, b"%d" % name, RestoreOptions(), pixels)


def jobs(*keys: BatchKey) -> list[Job]:
    return [job(index, key) for index, key in enumerate(keys)]


def submit(queue: Batcher, *queued: Job, seconds: float) -> None:
    """Queue jobs with another deadline."""
    queue._settings = queue._settings.model_copy(update={"deadline": seconds})
    queue.submit(queued)


def retry_after(problem: Problem) -> int:
    return int(problem.headers["Retry-After"])


async def take(queue: Batcher, count: int) -> list[list[int]]:
    return [[int(item.data) for item in await queue.take()] for _ in range(count)]


@pytest.mark.parametrize(
    ("keys", "pixels", "batches"),
    [
        ([RESTORE] * 7, 1, [[0, 1, 2, 3], [4, 5], [6]]),  # of the sizes, in order
        ([RESTORE, OTHER, RESTORE, OTHER], 1, [[0, 2], [1, 3]]),  # of one kind, the oldest first
        ([COMPRESS] * 2, 1, [[0], [1]]),
        ([SCENE, SCENE, RESTORE], 1, [[0], [1], [2]]),  # go alone
        ([RESTORE] * 3, 40, [[0, 1], [2]]),
        ([RESTORE] * 2, 300, [[0], [1]]),
    ],
)  # pictures are bounded together
async def test_batches(keys: list[BatchKey], pixels: int, batches: list[list[int]]) -> None:
    queue = batcher()
    queue.submit([job(index, key, pixels) for index, key in enumerate(keys)])
    assert await take(queue, len(batches)) == batches and len(queue) == 0


async def test_batches_do_not_take_long() -> None:
    queue = batcher(device="cpu")
    queue.note(RESTORE, 0.2)
    queue.note(OTHER, 0.1)
    queue.submit(jobs(RESTORE, RESTORE, RESTORE, OTHER, OTHER, OTHER, OTHER))
    assert await take(queue, 3) == [[0, 1], [2], [3, 4, 5, 6]]


async def test_faces_of_scenes_take_their_time() -> None:
    queue = batcher()
    queue.note(RESTORE, 2.0)
    queue.submit([job(0, SCENE)])
    assert queue.expected("restore") > 2 * 2.0  # as payloads, before a scene was measured
    queue.done(await queue.take(), 3.0)
    queue.submit([job(0, SCENE._replace(faces=4))])
    assert queue.expected("restore") == pytest.approx(4 * 1.5 + 4 * 1.5, abs=0.05)


async def test_a_full_queue_takes_all_or_nothing() -> None:
    queue = batcher(queue_size=3)
    queue.submit(jobs(RESTORE, RESTORE))
    with pytest.raises(Problem) as caught:
        queue.submit([job(2), job(3)])
    assert (caught.value.kind, retry_after(caught.value)) == ("queue-full", 1) and len(queue) == 2
    queue.submit([job(4)])
    with pytest.raises(Problem):
        queue.check_room("restore")
    queue.check_room("compress")  # has a queue of its own
    await queue.take()
    queue.check_room("restore", count=2)


async def test_late_jobs_are_refused_at_once() -> None:
    queue = batcher()
    queue.note(RESTORE, 2.0)
    queue.submit(jobs(*[RESTORE] * 8))
    running = await queue.take()
    assert queue.expected("restore") == pytest.approx(8 + 8 + 2, abs=0.05)
    with pytest.raises(Problem) as caught:
        submit(queue, job(), seconds=18 / ACCEPTED - 0.1)
    assert "longer than the deadline" in caught.value.detail and len(queue) == 4
    assert 18 - ROOM * 18 / ACCEPTED <= retry_after(caught.value) < 4
    submit(queue, job(), seconds=18 / ACCEPTED + 0.1)
    with pytest.raises(Problem):
        submit(queue, *jobs(RESTORE, RESTORE), seconds=22 / ACCEPTED - 0.1)
    queue.done(running, 8.0)
    submit(queue, *jobs(RESTORE, RESTORE), seconds=22 / ACCEPTED - 0.1)


async def test_time_that_a_batch_has_run_is_over() -> None:
    queue = batcher()
    queue.note(RESTORE, 0.4)
    queue.submit([job()])
    await queue.take()
    assert queue.expected("restore") == pytest.approx(0.4 + 0.4, abs=0.05)
    await asyncio.sleep(0.2)
    assert queue.expected("restore") == pytest.approx(0.2 + 0.4, abs=0.1)
    await asyncio.sleep(0.4)
    assert queue.expected("restore") == 0.4


async def test_an_idle_service_tries_any_job() -> None:
    queue = batcher()
    queue.note(RESTORE, 1000.0)
    submit(queue, *jobs(*[RESTORE] * 6), seconds=1)  # estimates may be wrong
    with pytest.raises(Problem):
        queue.check_room("restore")
    queue.done(await queue.take(), 4.0)
    assert queue.expected("restore") < 3000  # and are corrected


async def test_the_other_verb_counts_by_its_turns() -> None:
    queue = batcher()
    queue.note(RESTORE, 2.0)
    queue.note(COMPRESS, 1.0)
    queue.submit(jobs(*[RESTORE] * 8))
    assert queue.expected("compress") == pytest.approx(1 + 1, abs=0.05)  # half of the time, so long it takes
    queue.submit(jobs(*[COMPRESS] * 4))
    assert queue.expected("compress") == pytest.approx(4 + 5 + 1, abs=0.05)
    assert queue.expected("restore") == pytest.approx(16 + 4 + 2, abs=0.05)


async def test_both_verbs_get_half_of_the_time() -> None:
    queue, order = batcher(batch_sizes=(1,)), list[str]()
    queue.note(RESTORE, 3.0)
    queue.note(COMPRESS, 1.0)
    queue.submit(jobs(*[RESTORE] * 20))
    for _ in range(4):  # nobody saves up turns before
        queue.done(await queue.take(), 3.0)
    queue.submit(jobs(*[COMPRESS] * 20))
    for _ in range(16):
        (taken,) = await queue.take()
        order.append(taken.key.verb)
        queue.done([taken], 3.0 if taken.key.verb == "restore" else 1.0)
    assert order.count("restore") == 4 and order.count("compress") == 12


async def test_while_no_worker_is_ready_requests_wait_if_they_can() -> None:
    queue = batcher(ready_in=lambda: 12.0)
    submit(queue, job(), seconds=20)
    with pytest.raises(Problem) as caught:
        submit(queue, job(), seconds=10.1)
    assert (caught.value.kind, retry_after(caught.value)) == ("starting", 4)


async def test_discarded_jobs_leave() -> None:
    queue, left, fine = batcher(), job(1), job(2)
    queue.submit([left, fine])
    queue.discard([left])
    assert left.answer.cancelled()
    (taken,) = await queue.take()
    assert taken is fine and len(queue) == 0
    taken.settle(Done(b"x", {}))
    queue.discard([taken])  # changes nothing
    assert fine.answer.result().data == b"x"  # type: ignore[union-attr]
