"""The queues: batches of compatible jobs, turns, deadlines, estimates, limits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from edgegrain.service.batcher import ACCEPTED, MAX_AHEAD_BYTES, ROOM, Batcher
from edgegrain.service.capacity import Capacity
from edgegrain.service.job import BatchKey, Done, Job, Refused

RESTORE, OTHER, COMPRESS = BatchKey("restore", "a"), BatchKey("restore", "b"), BatchKey("compress", "a")


def batcher(*, limit: int = 100, **changes: Any) -> Batcher:
    return Batcher(**{"limits": {"restore": limit, "compress": limit}, "weights": {"restore": 1, "compress": 1},
                      "sizes": (1, 2, 4), "wait": 0.0, "max_pixels": 10**9, **changes})


def done(queue: Batcher, jobs: list[Job], seconds: float) -> None:
    """A worker was busy with a batch and has answered it."""
    queue.capacity.busy(0, 0.0)
    queue.note_done(jobs, seconds)
    queue.capacity.idle(0)


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
        queue.submit([job(0), job(1, OTHER), job(2), job(3, OTHER), job(4, COMPRESS)])
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
        done(queue, taking.result(), 0.0)
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
        done(queue, [job(index) for index in range(4)], 0.0)
        queue.submit([job(0)])
        taking = asyncio.create_task(queue.take())
        await turns()
        assert not taking.done()
        queue.submit([job(index) for index in range(1, 4)])
        assert names(await taking) == [0, 1, 2, 3]

        queue = batcher(wait=0.01)
        done(queue, [job(index) for index in range(4)], 0.0)
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
        with pytest.raises(Refused) as caught:
            queue.submit([job(2), job(3)])
        assert (caught.value.reason, caught.value.retry_after) == ("full", 1) and len(queue) == 2
        queue.submit([job(4)])
        with pytest.raises(Refused):
            queue.check_room("restore", 10)
        queue.check_room("compress", 10)  # has a queue of its own
        await queue.take()
        queue.check_room("restore", 10, count=2)

    run(test)


def busy(queue: Batcher, seconds: float, *, restore: float = 2.0, compress: float = 1.0) -> None:
    """The worker is busy for ``seconds``, and an item takes ``restore`` or ``compress`` seconds."""
    for verb, item in (("restore", restore), ("compress", compress)):
        for size in (1, 2, 4):
            queue.times.note(verb, "a", size, size * item)
    queue.capacity.busy(0, seconds)


def test_what_would_be_late_is_refused_at_once() -> None:
    async def test() -> None:
        queue, refused = batcher(on_refused=lambda *details: refused.append(details)), list[Any]()
        busy(queue, 10)
        queue.submit([job(index) for index in range(4)])  # until 18 s
        with pytest.raises(Refused) as caught:
            queue.submit([job(5, seconds=20 / ACCEPTED - 0.5)])
        assert caught.value.reason == "late" and refused == [("restore", "late", 1)] and len(queue) == 4
        assert 20 - ROOM * (20 / ACCEPTED) < caught.value.retry_after < 4
        queue.capacity.busy(0, 10 - caught.value.retry_after)  # as much later
        queue.submit([job(6, seconds=20 / ACCEPTED - 0.5)])
        assert queue.expected("restore") == pytest.approx(22 - caught.value.retry_after, abs=0.5)

    run(test)


def test_an_idle_worker_tries_what_seems_hopeless() -> None:
    async def test() -> None:
        queue = batcher()
        busy(queue, 0, restore=1000.0)
        queue.capacity.idle(0)
        queue.check_room("restore", 1)
        form = [job(index, seconds=1) for index in range(6)]
        queue.submit(form)  # estimates may be wrong
        with pytest.raises(Refused):
            queue.check_room("restore", 1)
        queue.refuse_late()
        assert [each.answer.done() for each in form] == [False] + [True] * 5
        assert names(await queue.take()) == [0]

    run(test)


def test_the_other_verb_counts_by_its_turns() -> None:
    async def test() -> None:
        queue = batcher()
        busy(queue, 10)
        queue.submit([job(index) for index in range(8)])  # 16 s
        assert queue.expected("compress") == pytest.approx(11, abs=0.5)  # has the next turn
        queue.submit([job(index, COMPRESS) for index in range(4)])  # 4 s, and a batch of the other verb
        assert queue.expected("compress") == pytest.approx(10 + 4 + 8 + 1, abs=0.5)  # batches are not interrupted
        assert queue.expected("restore") == pytest.approx(10 + 16 + 4 + 2, abs=0.5)

    run(test)


def test_turns_give_both_verbs_half_of_the_time() -> None:
    async def test() -> None:
        queue, order = batcher(sizes=(1,)), list[str]()
        busy(queue, 0, restore=3.0, compress=1.0)
        queue.submit([job(index) for index in range(20)])
        queue.submit([job(index, COMPRESS) for index in range(20)])
        for _ in range(16):
            (taken,) = await queue.take()
            order.append(taken.key.verb)
            queue.note_done([taken], 3.0 if taken.key.verb == "restore" else 1.0)
        assert order.count("restore") == 4 and order.count("compress") == 12

    run(test)


def test_waiting_jobs_are_refused_as_soon_as_they_are_late() -> None:
    async def test() -> None:
        queue = batcher(weights={"restore": 1, "compress": 4})
        busy(queue, 5)
        restores = [job(index, seconds=20) for index in range(6)]
        queue.submit(restores)  # until 17 s
        queue.submit([job(index, COMPRESS, seconds=30) for index in range(8)])  # come before most of them
        await asyncio.wait_for(asyncio.wait([each.answer for each in restores[4:]]), 5)  # 20 s before their deadline
        assert [each.answer.done() for each in restores] == [False] * 4 + [True] * 2  # the latest arrivals
        for each in restores[4:]:
            answer = each.answer.result()
            assert isinstance(answer, Refused) and answer.reason == "overtaken" and 5 < answer.retry_after < 20
        assert len(queue) == 4 + 8

    run(test)


def test_while_no_worker_is_ready_only_the_patient_wait() -> None:
    async def test() -> None:
        capacity = Capacity()
        queue = batcher(capacity=capacity)
        capacity.started(0, 12.0)
        capacity.idle(0)
        patient, hasty = job(0, seconds=20), job(1, seconds=10)
        queue.submit([patient, hasty])
        capacity.starting(0)  # it was lost
        queue.refuse_late()
        answer = hasty.answer.result()
        assert isinstance(answer, Refused) and (answer.reason, answer.retry_after) == ("starting", 12)
        assert not patient.answer.done()
        with pytest.raises(Refused) as caught:
            queue.submit([job(2, seconds=10)])
        assert caught.value.reason == "starting" and caught.value.retry_after >= 11
        capacity.started(1, 12.0)  # a spare
        queue.submit([job(3, seconds=10)])

    run(test)


def test_batches_do_not_take_long() -> None:
    async def test() -> None:
        queue = batcher(longest=5.0)
        busy(queue, 0, restore=2.0)
        for size in (1, 2, 4):
            queue.times.note("restore", "b", size, 6.0)  # larger ones take no longer
        queue.submit([job(index) for index in range(4)])
        queue.submit([job(index, OTHER) for index in range(4)])
        assert [names(await queue.take()) for _ in range(3)] == [[0, 1], [2, 3], [0, 1, 2, 3]]

    run(test)


def test_a_batch_is_small_enough_for_its_deadline() -> None:
    async def test() -> None:
        queue = batcher()
        busy(queue, 0)
        queue.capacity.idle(0)
        queue.submit([job(0, seconds=5), *(job(index) for index in range(1, 4))])
        assert names(await queue.take()) == [0, 1]  # 4 s; four would take 8 s

    run(test)


def test_long_batches_do_not_go_ahead() -> None:
    async def test() -> None:
        queue = batcher()
        busy(queue, 10)
        queue.submit([job(index) for index in range(8)])
        assert queue.take_ahead() == []

    run(test)


def test_expired_and_discarded_jobs_leave() -> None:
    async def test() -> None:
        queue = batcher()
        late, left, fine = job(0, seconds=0.01), job(1), job(2)
        queue.submit([late, left, fine])
        await asyncio.sleep(0.02)
        queue.discard([left])
        assert left.answer.cancelled()
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
