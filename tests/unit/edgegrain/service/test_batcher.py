"""The queue: batches of compatible jobs, deadlines, estimates, limits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from edgegrain.service.batcher import MAX_AHEAD_BYTES, Batcher, BatchKey, Done, Job, QueueFull

RESTORE, OTHER = BatchKey("restore", "a"), BatchKey("restore", "b")


def batcher(**changes: Any) -> Batcher:
    return Batcher(**{"limit": 100, "sizes": (1, 2, 4), "wait": 0.0, "max_pixels": 10**9, **changes})


def job(name: int = 0, key: BatchKey = RESTORE, *, seconds: float = 100, pixels: int = 1) -> Job:
    loop = asyncio.get_running_loop()
    return Job(key, b"%d" % name, {}, loop.time() + seconds, pixels, loop.create_future())


def names(jobs: list[Job]) -> list[int]:
    return [int(item.data) for item in jobs]


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 30))  # type: ignore[arg-type]


def test_batches_are_of_the_sizes_in_order() -> None:
    async def test() -> None:
        queue = batcher()
        queue.submit([job(index) for index in range(7)])
        assert [names(await queue.take()) for _ in range(3)] == [[0, 1, 2, 3], [4, 5], [6]]
        assert len(queue) == 0

    run(test)


def test_a_batch_holds_one_kind_and_the_oldest_goes_first() -> None:
    async def test() -> None:
        queue = batcher()
        queue.submit([job(0), job(1, OTHER), job(2), job(3, OTHER), job(4, BatchKey("compress", "a"))])
        assert [names(await queue.take()) for _ in range(3)] == [[0, 2], [1, 3], [4]]

    run(test)


async def turns(count: int = 10) -> None:
    """Run everything that does not wait for the clock."""
    for _ in range(count):
        await asyncio.sleep(0)


def test_a_lone_job_is_handed_out_at_once() -> None:
    async def test() -> None:
        queue = batcher(wait=1000.0)  # were it waited for, the test would not end
        taking = asyncio.create_task(queue.take())
        await turns()
        queue.submit([job(0)])
        await turns()
        assert taking.done() and names(taking.result()) == [0]
        queue.note_speed(1, 0.0)
        queue.submit([job(1)])
        assert names(await queue.take()) == [1]

    run(test)


def test_waits_for_what_is_being_received_but_not_longer_than_told() -> None:
    async def test() -> None:
        queue, loop = batcher(wait=0.2, arriving=lambda: True), asyncio.get_running_loop()
        taking = asyncio.create_task(queue.take())
        await asyncio.sleep(0)
        start = loop.time()
        queue.submit([job(0)])
        await asyncio.sleep(0.02)
        queue.submit([job(1)])
        assert names(await taking) == [0, 1] and loop.time() - start >= 0.19
        start = loop.time()
        queue.submit([job(index) for index in range(4)])  # full: nothing to wait for
        assert len(await queue.take()) == 4 and loop.time() - start < 0.19

    run(test)


def test_waits_for_those_who_were_answered_together_just_now() -> None:
    async def test() -> None:
        queue = batcher(wait=1000.0)
        queue.note_speed(4, 0.1)
        queue.submit([job(0)])
        taking = asyncio.create_task(queue.take())
        await turns()
        assert not taking.done()
        queue.submit([job(index) for index in range(1, 4)])
        assert names(await taking) == [0, 1, 2, 3]

        queue = batcher(wait=0.01)
        queue.note_speed(4, 0.1)
        await asyncio.sleep(0.02)  # they did not come back
        queue.submit([job(0)])
        taking = asyncio.create_task(queue.take())
        await turns()
        assert taking.done() and names(taking.result()) == [0]

    run(test)


def test_only_full_batches_go_ahead() -> None:
    async def test() -> None:
        queue = batcher()
        assert queue.take_ahead() == []
        queue.submit([job(0), job(1, OTHER), job(2), job(3)])
        assert queue.take_ahead() == [] and len(queue) == 4
        queue.submit([job(4), job(5)])
        assert names(queue.take_ahead()) == [0, 2, 3, 4]
        assert [names(await queue.take()) for _ in range(2)] == [[1], [5]]
        queue.submit([job(6, seconds=0.01), *(job(index) for index in range(7, 10))])
        await asyncio.sleep(0.02)  # the request of 6 has ended
        assert queue.take_ahead() == [] and len(queue) == 3

    run(test)


def test_nothing_goes_ahead_while_a_worker_is_idle() -> None:
    async def test() -> None:
        queue = batcher()
        taking = asyncio.create_task(queue.take())
        await turns()
        queue.submit([job(index) for index in range(8)])
        assert queue.take_ahead() == []  # the idle one has been woken, and has its batch in a moment
        assert names(await taking) == [0, 1, 2, 3]
        assert names(queue.take_ahead()) == [4, 5, 6, 7]

    run(test)


def test_large_batches_do_not_go_ahead() -> None:
    async def test() -> None:
        queue = batcher(sizes=(1, 2))
        for size, count in ((MAX_AHEAD_BYTES // 2, 2), (MAX_AHEAD_BYTES // 2 + 1, 0)):
            jobs = [job(index) for index in range(2)]
            for each in jobs:
                each.data = bytes(size)
            queue.submit(jobs)
            assert len(queue.take_ahead()) == count
            queue.discard(jobs)

    run(test)


def test_several_takers_share_without_loss() -> None:
    async def test() -> None:
        queue, found = batcher(wait=0.001), []

        async def taker() -> None:
            while True:
                found.extend(names(await queue.take()))
                await asyncio.sleep(0)

        tasks = [asyncio.create_task(taker()) for _ in range(3)]
        for index in range(50):
            queue.submit([job(index)])
            await asyncio.sleep(0.0005 * (index % 3))
        while len(found) < 50:
            await asyncio.sleep(0.001)
        for task in tasks:
            task.cancel()
        assert sorted(found) == list(range(50))

    run(test)


def test_full_queue_takes_all_or_nothing() -> None:
    async def test() -> None:
        queue = batcher(limit=3)
        queue.submit([job(0), job(1)])
        with pytest.raises(QueueFull) as caught:
            queue.submit([job(2), job(3)])
        assert caught.value.retry_after == 1 and len(queue) == 2
        queue.submit([job(4)])
        with pytest.raises(QueueFull):
            queue.check_room()
        await queue.take()
        queue.check_room(2)

    run(test)


def test_what_would_be_late_is_refused_at_once() -> None:
    async def test() -> None:
        queue = batcher()
        queue.note_speed(4, 8.0)  # two seconds an item
        queue.submit([job(index) for index in range(5)])
        assert queue.retry_after() == 5
        with pytest.raises(QueueFull):
            queue.submit([job(5, seconds=9)])
        queue.submit([job(6, seconds=11)])
        queue.note_speed(1, 0.0)
        assert queue.retry_after() == 5  # 6 items at 1.6 s, half of them

    run(test)


def test_retry_after_is_bounded() -> None:
    async def test() -> None:
        queue = batcher()
        queue.note_speed(1, 1000.0)
        queue.submit([job(0, seconds=1e9)])
        assert queue.retry_after() == 60

    run(test)


def test_expired_and_discarded_jobs_leave() -> None:
    async def test() -> None:
        queue = batcher()
        late, left, fine = job(0, seconds=0.01), job(1), job(2)
        queue.submit([late, left, fine])
        await asyncio.sleep(0.02)
        queue.discard([left])
        assert len(queue) == 2 and left.answer.cancelled()
        assert names(await queue.take()) == [2]
        assert len(queue) == 0

    run(test)


def test_discarding_what_was_answered_changes_nothing() -> None:
    async def test() -> None:
        queue, one = batcher(), job(0)
        queue.submit([one])
        (taken,) = await queue.take()
        taken.answer.set_result(Done(b"x", {}))
        queue.discard([one])
        assert one.answer.result().data == b"x"  # type: ignore[union-attr]

    run(test)


def test_a_batch_that_no_worker_began_goes_to_the_front() -> None:
    async def test() -> None:
        queue = batcher()
        queue.submit([job(index) for index in range(5)])
        batch = await queue.take()
        batch[1].answer.cancel()
        queue.put_back(batch)
        assert names(await queue.take()) == [0, 2, 3, 4]

    run(test)


def test_pictures_of_a_batch_are_bounded_together() -> None:
    async def test() -> None:
        queue = batcher(max_pixels=100)
        queue.submit([job(0, pixels=300), job(1, pixels=40), job(2, pixels=40), job(3, pixels=40)])
        assert [names(await queue.take()) for _ in range(3)] == [[0], [1, 2], [3]]

    run(test)


def test_cancelled_taker_loses_nothing() -> None:
    async def test() -> None:
        queue = batcher(wait=10, arriving=lambda: True)
        queue.submit([job(0)])
        taking = asyncio.create_task(queue.take())
        await asyncio.sleep(0.01)
        taking.cancel()
        await asyncio.gather(taking, return_exceptions=True)
        assert len(queue) == 1

    run(test)
