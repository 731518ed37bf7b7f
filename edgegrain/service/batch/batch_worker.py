"""`BatchWorker`: a worker of ``edgegrain batch`` that reads files, computes, writes results and counts."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from codec_contract.bundle.manifest import load_manifest
from codec_contract.errors import EdgegrainError
from edgegrain.service.batch.engine_process import EngineProcess
from edgegrain.service.batch.folder_store import FolderStore
from edgegrain.service.batch.open_store import open_store
from edgegrain.service.batch.plan import BatchPlan, Tally
from edgegrain.service.batch.store import Store
from edgegrain.service.engine import RestoreOptions, check_result, read_claims

PART_BYTES = 1 << 30
"""Most bytes of files and expected results that the process gets together; `pipe_messages` carries twice as much."""
BYTES_PER_PIXEL = 4
"""Upper bound for files of restored pictures; an uncompressed PNG has little more than 3."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class BatchWorker:
    """Processes batches of names; a file that cannot be read, computed or written does not affect the others."""

    def __init__(self, plan: BatchPlan) -> None:
        """Open both stores and start the process that runs the networks.

        Raises:
            BundleError: the bundle is damaged.
            ServiceError: a store cannot be opened.
        """
        self._plan = plan
        self._manifest = load_manifest(plan.folder)
        self._source: Store = open_store(plan.source)
        target = open_store(plan.target)
        self._target: Store = target
        self._lock = target.share() if isinstance(target, FolderStore) else None
        sizes = [1 << power for power in range(plan.batch_size.bit_length())]  # warmed up; other sizes are padded
        self._engine = EngineProcess({
            "folders": [plan.folder, *plan.fallbacks],
            "device": plan.device, "threads": plan.threads, "log_level": "warning",
            "batch_sizes": sorted({*sizes, plan.batch_size}) if plan.verb == "restore" else [1],
            "max_pixels": plan.max_pixels, "max_photo_pixels": plan.max_pixels})

    def work(self, names: Sequence[str]) -> Tally:
        """Process all of these names, also those that have a result already."""
        tally = Tally()
        for part in self._parts(self._read(names, tally)):
            self._process(part, tally)
            part.clear()  # before the files of the next one are read
        return tally

    def _read(self, names: Sequence[str], tally: Tally) -> Iterator[tuple[str, bytes]]:
        """Read files, as many at a time as the source has threads, and count those that cannot be read."""
        threads, limit = self._source.threads, self._plan.max_bytes
        for first in range(0, len(names), threads):
            some = names[first:first + threads]
            for name, data in zip(
                    some, _run_threads(threads, lambda name: self._source.read(name, limit), some), strict=True):
                if isinstance(data, bytes):
                    yield name, data
                else:
                    tally.fail(name, data)

    def _parts(self, files: Iterable[tuple[str, bytes]]) -> Iterator[list[tuple[str, bytes]]]:
        """Split files into parts of at most `PART_BYTES`, or of one file."""
        part: list[tuple[str, bytes]] = []
        total = 0
        for name, data in files:
            count = len(data) + self._result_bytes(data)
            if part and total + count > PART_BYTES:
                yield part
                part, total = [], 0
            part.append((name, data))
            total += count
        if part:
            yield part

    def _result_bytes(self, data: bytes) -> int:
        """Upper bound for the bytes of a restored picture; 0 for payloads, which are small, and for errors."""
        if self._plan.verb == "compress":
            return 0
        try:
            options = RestoreOptions(**self._plan.options)
            return BYTES_PER_PIXEL * check_result(read_claims(data), self._manifest, options, self._plan.max_pixels)
        except EdgegrainError:
            return 0

    def _process(self, good: Sequence[tuple[str, bytes]], tally: Tally) -> None:
        """Compute and write the results of files that were read, and count them."""
        plan = self._plan
        outcomes = self._engine.run(plan.verb, plan.bundle, plan.options, [data for _, data in good])
        made = []
        for (name, data), outcome in zip(good, outcomes, strict=True):
            if isinstance(outcome, bytes):
                made.append((name, data, outcome))
            else:
                tally.fail(name, outcome)
        written = _run_threads(
            self._target.threads, lambda item: self._target.write(plan.result(item[0]), item[2]), made)
        for (name, data, result), error in zip(made, written, strict=True):
            if error is None:
                tally.done += 1
                tally.bytes_in += len(data)
                tally.bytes_out += len(result)
            else:
                tally.fail(name, error)

    def close(self) -> None:
        """End the process and release the lock on the target."""
        self._engine.close()
        if self._lock is not None:
            os.close(self._lock)


def _run_threads(threads: int, work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result | Exception]:
    """Apply ``work`` with several threads; returns results in order, `EdgegrainError` and `OSError` as values."""

    def attempt(item: Item) -> Result | Exception:
        try:
            return work(item)
        except (EdgegrainError, OSError) as error:
            return error

    if threads == 1:
        return [attempt(item) for item in items]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(attempt, items))
