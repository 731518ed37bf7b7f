"""The parts of the estimates: service times, turns, capacity, times of retries; on a clock of their own."""

from __future__ import annotations

from itertools import pairwise

import pytest

from edgegrain.service.capacity import Capacity, start_in
from edgegrain.service.job import BatchKey
from edgegrain.service.job_queue import JobQueue
from edgegrain.service.retry_times import MAX_RETRY_AFTER, RetryTimes
from edgegrain.service.service_times import SMOOTHING, ServiceTimes
from edgegrain.service.turns import Turns


class Clock:
    """A clock that stands still until it is set."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


class TestServiceTimes:
    def test_measurements_replace_the_warm_up_and_are_averaged_then_smoothed(self) -> None:
        times = ServiceTimes()
        assert times.seconds("restore", "a", 8) == 0.0
        times.suggest("restore", "a", 1, 5.0)
        assert times.seconds("restore", "a", 1) == 5.0
        times.note("restore", "a", 1, 1.0)
        times.suggest("restore", "a", 1, 5.0)  # a restarted worker changes nothing
        assert times.seconds("restore", "a", 1) == 1.0
        times.note("restore", "a", 1, 3.0)
        assert times.seconds("restore", "a", 1) == pytest.approx(2.0)
        for _ in range(10):
            times.note("restore", "a", 1, 2.0)
        times.note("restore", "a", 1, 12.0)
        assert times.seconds("restore", "a", 1) == pytest.approx(2.0 + SMOOTHING * 10, abs=0.01)

    def test_other_sizes_are_scaled_from_the_nearest(self) -> None:
        times = ServiceTimes()
        times.note("restore", "a", 1, 1.0)
        times.note("restore", "a", 8, 2.0)
        assert times.seconds("restore", "a", 2) == 2.0
        assert times.seconds("restore", "a", 4) == 1.0
        assert times.seconds("restore", "a", 16) == 4.0
        times.note("restore", "a", 1, 9.0, 4)
        assert times.seconds("restore", "a", 2, 4) == 18.0 and times.seconds("restore", "a", 1) == 1.0
        assert times.seconds("restore", "a", 1, 2) == 0.0 and times.least("restore", 1) == 1.0
        assert times.seconds("restore", "b", 1) == times.seconds("compress", "a", 1) == 0.0

    def test_the_fastest_bundle(self) -> None:
        times = ServiceTimes()
        times.note("restore", "a", 1, 2.0)
        times.note("restore", "b", 1, 1.0)
        assert times.least("restore", 1) == times.least("restore", 4) == 1.0 and times.least("compress", 1) == 0.0

    def test_batches_of_the_available_sizes(self) -> None:
        times = ServiceTimes()
        for size, seconds in ((1, 1.0), (2, 1.5), (4, 2.0)):
            times.note("restore", "a", size, seconds)
        queue = JobQueue(limit=1, sizes=(1, 2, 4), max_pixels=1, times=times)
        assert queue.seconds(BatchKey("restore", "a"), 11) == 2.0 + 2.0 + 1.5 + 1.0


class TestTurns:
    def served(self, turns: Turns, costs: dict[str, float], seconds: float) -> dict[str, float]:
        """Seconds of each queue within some time, all of them never empty."""
        total = dict.fromkeys(costs, 0.0)
        while sum(total.values()) < seconds:
            verb = turns.next(costs)
            turns.charge(verb, costs[verb])
            total[verb] += costs[verb]
        return total

    def test_time_is_shared_by_weight_not_by_number(self) -> None:
        total = self.served(Turns({"dear": 1, "cheap": 1}), {"dear": 2.0, "cheap": 0.1}, 200)
        assert total["dear"] == pytest.approx(100, abs=2) and total["cheap"] == pytest.approx(100, abs=2)
        total = self.served(Turns({"dear": 3, "cheap": 1}), {"dear": 2.0, "cheap": 0.1}, 200)
        assert total["dear"] == pytest.approx(150, abs=2)

    def test_wrong_expectations_are_corrected(self) -> None:
        turns = Turns({"a": 1, "b": 1})
        turns.charge("a", 0.0)
        turns.correct("a", 5.0)  # it took longer
        assert [turns.next("ab")] == ["b"]
        assert turns.between("a", 0.0, "b") == 5.0 and turns.between("b", 2.0, "a") == 0.0

    def test_an_empty_queue_saves_nothing_up(self) -> None:
        turns = Turns({"a": 1, "b": 1})
        for _ in range(100):
            turns.charge("a", 1.0)
        turns.join("b")
        total = dict.fromkeys("ab", 0)
        for _ in range(20):
            verb = turns.next("ab")
            turns.charge(verb, 1.0)
            total[verb] += 1
        assert abs(total["a"] - total["b"]) <= 1

    def test_shares(self) -> None:
        turns = Turns({"a": 3, "b": 1})
        assert turns.share("a", "b") == 0.75 and turns.share("b", "ab") == 0.25 and turns.share("b", "") == 1.0


class TestCapacity:
    def test_a_worker_through_its_life(self) -> None:
        clock = Clock()
        capacity = Capacity(1, clock)
        assert capacity.free_in() == [0.0] and capacity.ready_in() == 0.0
        capacity.starting(0)
        clock.now += 4
        assert capacity.ready_in() == 4.0  # as long again as until now: no start has been measured
        capacity.started(0, 5.0)
        capacity.idle(0)
        assert capacity.free_in() == [0.0]
        capacity.busy(0, 2.0)
        capacity.more(0, 1.0)
        clock.now += 1
        assert capacity.free_in() == [2.0]
        clock.now += 5  # three seconds overdue
        assert capacity.free_in() == [3.0] and capacity.ready_in() == 0.0
        capacity.starting(0, pause=1.0)
        assert capacity.free_in() == [6.0] and capacity.ready_in() == 6.0

    def test_a_spare_takes_the_place_of_a_lost_worker(self) -> None:
        capacity = Capacity(1, Clock())
        for worker in (0, 1):
            capacity.started(worker, 7.0)
        capacity.idle(0)
        capacity.busy(0, 3.0)
        assert capacity.free_in() == [3.0]  # the spare does not work beside it
        capacity.starting(0)
        assert capacity.free_in() == [0.0] and capacity.ready_in() == 0.0
        capacity.idle(1)
        assert capacity.free_in() == [0.0]

    def test_workers_that_start_count_from_when_they_are_ready(self) -> None:
        capacity = Capacity(2, Clock())
        capacity.started(0, 7.0)
        capacity.idle(0)
        capacity.starting(1)
        assert capacity.free_in() == [0.0, 7.0]

    @pytest.mark.parametrize(("free", "work", "start"), [
        ([2.0], 0.0, 2.0), ([2.0], 5.0, 7.0), ([0.0, 0.0], 5.0, 2.5), ([1.0, 4.0], 2.0, 3.0), ([1.0, 4.0], 5.0, 5.0),
        ([0.0, 10.0], 4.0, 4.0), ([0.0, 1.0, 2.0], 6.0, 3.0)])
    def test_start_behind_others(self, free: list[float], work: float, start: float) -> None:
        assert start_in(free, work) == pytest.approx(start)


class TestRetryTimes:
    def test_clients_are_spread(self) -> None:
        clock = Clock()
        retries = RetryTimes(clock)
        assert [retries.after("restore", 3.2, 0.5) for _ in range(6)] == [4, 4, 5, 5, 6, 6]
        assert retries.after("compress", 0.0, 0.5) == 1  # each verb of its own
        clock.now += 100
        assert retries.after("restore", -5.0, 20.0) == 1 and retries.after("restore", -5.0, 20.0) == 20
        retries.forget()
        assert retries.after("restore", -5.0, 20.0) == 1

    def test_bounds(self) -> None:
        retries = RetryTimes(Clock())
        values = [retries.after("restore", 0.0, 7.0) for _ in range(20)]
        assert values[0] == 1 and values[-1] == MAX_RETRY_AFTER and all(low <= high for low, high in pairwise(values))
