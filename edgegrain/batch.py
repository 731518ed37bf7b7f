"""``edgegrain batch``: compress or restore the files of a folder or an object store, on Ray.

The driver lists names without a result and counts; workers, which are Ray actors, read files, compute and write
results. Only names and counts pass through Ray. Ray Core, not Ray Data: it tells which names a worker that died had.
"""

from __future__ import annotations

import faulthandler
import io
import itertools
import json
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from codec_contract.errors import (
    BundleError,
    DeviceError,
    DeviceMemoryError,
    EdgegrainError,
    ExistsError,
    ImageError,
    ServiceError,
    first_line,
)
from codec_contract.files import printable_name
from codec_contract.fit import MAX_PIXELS, Fit, Size
from codec_contract.payload import PAYLOAD_SUFFIX
from edgegrain.pictures.file_formats import SAVE_OPTIONS
from edgegrain.ray_cluster import cluster_cores, ray_cluster
from edgegrain.stores import FolderStore, Store, Verb, candidates, open_store
from sdk.codec import Codec
from sdk.inputs import BATCH
from sdk.rate_control import compress_within
from server_decoder.decoder_session import Device

CHUNK = 1000
"""Names whose results are looked up together."""
AHEAD = 64
"""Batches that are listed ahead of the workers."""
THREADS = 16
"""Files that a worker reads or writes at once; requests to object stores are slow and need no processor time."""
MAX_BYTES = 1 << 28
"""Largest file that is read."""
TASK_SECONDS, FILE_SECONDS = 600.0, 30.0
"""Longest time for a task, and more for each of its files; a worker that exceeds it is replaced."""
FAST = {".png": {"compress_type": Image.RLE}, ".webp": {"method": 2}}
"""Options of Pillow: run lengths compress photographs as well as zlib's search, in a quarter of the time; WebP's method
2 takes half the time of its default for 1.5 % more bytes."""
FAILURES = "failures.jsonl"
SHOWN = 10
"""Most failures that are returned; the file has all of them."""


@dataclass(frozen=True)
class BatchPlan:
    """Parameters of a run, for all its workers.

    Attributes:
        source: folder or URI that is read.
        target: folder or URI that is written.
        verb: ``"compress"`` or ``"restore"``.
        bundles: folders of the bundles; those after the first are tried if a payload exceeds ``max_bytes``.
        suffix: suffix of the results.
        fit, align, max_bytes: as for `sdk.compress`.
        size, strength, mark: as for `sdk.restore`.
        max_pixels: largest picture that is compressed, or restored.
        device: device of the decoders.
        threads: threads of a worker's networks on the CPU.
        batch_size: files of a worker's task.
        force: process also files that have a result.
        inner: name of the target in the source, whose files are no input; "" if it is not below the source.
    """

    source: str
    target: str
    verb: Verb
    bundles: Sequence[str]
    suffix: str
    fit: Fit | None = None
    align: bool = True
    max_bytes: int | None = None
    size: Size = "original"
    strength: float | None = None
    mark: bool = True
    max_pixels: int = MAX_PIXELS
    device: Device = "cpu"
    threads: int = 1
    batch_size: int = 16
    force: bool = False
    inner: str = ""

    def result(self, name: str) -> str:
        """The name of a file's result: ``a.jpg`` becomes ``a.jpg.grain`` (there may be an ``a.png``), ``a.grain``
        becomes ``a.png``."""
        return (name.removesuffix(PAYLOAD_SUFFIX) if self.verb == "restore" else name) + self.suffix


@dataclass
class Tally:
    """Counts of processed files.

    Attributes:
        done: files processed by this run.
        skipped: files whose result existed.
        failed: files that failed, and folders that could not be listed.
        bytes_in, bytes_out: bytes read for the files that are done, and bytes written.
        failures: ``{"name", "error"}`` of what failed.
    """

    done: int = 0
    skipped: int = 0
    failed: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    failures: list[dict[str, str]] = field(default_factory=list)

    def fail(self, name: str, error: Exception | str) -> None:
        """Count a failed file or folder, with its error."""
        self.failed += 1
        text = " ".join(str(error).split()) or type(error).__name__
        self.failures.append({"name": printable_name(name), "error": text})

    def add(self, part: Tally) -> None:
        """Add a part's counts and failures."""
        for name, value in vars(part).items():
            setattr(self, name, getattr(self, name) + value)


def pending_batches(
    plan: BatchPlan, source: Store, target: Store, count: Callable[[Tally], None]
) -> Iterator[list[str]]:
    """List the names without a result, in batches; those with one, and folders that cannot be listed, are counted."""
    waiting: list[str] = []

    def report(folder: str, error: OSError) -> None:
        part = Tally()
        part.fail(folder, error)
        count(part)

    names = candidates(source.names(report), plan.verb, plan.inner)
    while chunk := list(itertools.islice(names, CHUNK)):
        done = set() if plan.force else target.present([plan.result(name) for name in chunk])
        waiting += (name for name in chunk if plan.result(name) not in done)
        count(Tally(skipped=sum(plan.result(name) in done for name in chunk)))
        while len(waiting) >= plan.batch_size:
            yield waiting[:plan.batch_size]
            del waiting[:plan.batch_size]
    if waiting:
        yield waiting


class Worker:
    """Compresses or restores named files; an error of one does not affect the others. Runs as a Ray actor."""

    def __init__(self, plan: BatchPlan) -> None:
        self._plan = plan
        self._source, self._target = open_store(plan.source), open_store(plan.target)
        self._threads = ThreadPoolExecutor(THREADS)

    def work(self, names: Sequence[str]) -> Tally:
        """Process these names, also those that have a result; without names, open the bundles.

        The process ends if that takes too long, or if the device fails, which leaves it unusable.
        """
        _, tally = self._codecs, Tally()
        faulthandler.dump_traceback_later(TASK_SECONDS + FILE_SECONDS * len(names), exit=True, file=2)
        try:
            for first in range(0, len(names), THREADS):
                self._process(names[first:first + THREADS], tally)
        finally:
            faulthandler.cancel_dump_traceback_later()
        return tally

    def _process(self, names: Sequence[str], tally: Tally) -> None:
        files = self._attempt(self._read, dict.fromkeys(names), tally, self._threads.map)
        pictures: dict[str, Image.Image] = {}
        if self._plan.verb == "restore" and self._plan.device != "cpu":  # where batches are faster
            with suppress(EdgegrainError):  # then one by one, to tell whose error it is
                restored = self._codecs[0].restore_batch(list(files.values()), **self._restoring)
                pictures = dict(zip(files, restored, strict=True))
        made = self._attempt(lambda name, data: self._convert(data, pictures.pop(name, None)), files, tally)
        for name in self._attempt(self._write, made, tally, self._threads.map):
            tally.add(Tally(1, bytes_in=len(files[name]), bytes_out=len(made[name])))

    @cached_property
    def _codecs(self) -> list[Codec]:
        plan = self._plan
        codecs = [Codec(folder, plan.device, plan.threads) for folder in plan.bundles]
        if plan.verb == "restore":
            decoder = codecs[0]._open.decoder
            if plan.device != "cpu" and decoder.lr_size is not None:
                decoder.warm_up((1, BATCH))  # keeps CUDA graphs for what `restore_batch` runs
        return codecs

    @property
    def _restoring(self) -> dict[str, Any]:
        plan = self._plan
        return {"size": plan.size, "max_pixels": plan.max_pixels, "strength": plan.strength, "mark": plan.mark}

    def _read(self, name: str, _: None) -> bytes:
        data = self._source.read(name, MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ImageError(f"{printable_name(name)} has more than {MAX_BYTES} bytes")
        return data

    def _convert(self, data: bytes, picture: Image.Image | None) -> bytes:
        """The result of a file; ``picture`` is the restored picture if there is one already."""
        plan = self._plan
        if plan.verb == "compress":
            return compress_within(self._codecs, data, plan.fit, max_bytes=plan.max_bytes, align=plan.align,
                                   max_pixels=plan.max_pixels)
        picture = picture or self._codecs[0].restore(data, **self._restoring)
        kind, options = SAVE_OPTIONS[plan.suffix]
        stream = io.BytesIO()
        picture.save(stream, kind, **options, **FAST.get(plan.suffix, {}))
        return stream.getvalue()

    def _write(self, name: str, data: bytes) -> None:
        self._target.write(self._plan.result(name), data)

    @staticmethod
    def _attempt(
        work: Callable[[str, Any], Any], items: Mapping[str, Any], tally: Tally,
        run: Callable[..., Iterator[Any]] = map
    ) -> dict[str, Any]:
        """``work(name, value)`` for each item, by name; failures are counted and left out."""

        def attempt(item: tuple[str, Any]) -> Any:
            try:
                return work(*item)
            except BundleError:  # of every file
                raise
            except DeviceError as error:
                if not isinstance(error, DeviceMemoryError):
                    os._exit(1)
                return error
            except Exception as error:  # of any library: this file may be malicious
                return error

        results = dict(zip(items, run(attempt, items.items()), strict=True))
        for name, result in list(results.items()):
            if isinstance(result, Exception):
                tally.fail(name, result)
                del results[name]
        return results


def tallies(plan: BatchPlan, batches: Iterator[list[str]], workers: int, gpus: float = 0.0) -> Iterator[Tally]:
    """Process batches of names with Ray actors, yielding the counts of each.

    The files of an actor that dies are tried again one by one, to tell which of them is the reason.
    """
    import ray
    from ray.exceptions import RayError, RayTaskError

    actor_class = ray.remote(num_cpus=1, num_gpus=gpus)(Worker)
    running: dict[Any, tuple[Any, list[str], bool]] = {}  # task -> its actor, its names, and whether they are alone

    def give(actor: Any, names: list[str], alone: bool = False) -> None:
        running[actor.work.remote(names)] = actor, names, alone

    again: deque[str] = deque()
    listed = False
    for _ in range(workers):
        give(actor_class.remote(plan), [])
    while not listed or again or any(names for _, names, _ in running.values()):
        (task,), _ = ray.wait(list(running))
        actor, names, alone = running.pop(task)
        try:
            part = ray.get(task)
        except RayTaskError as error:
            cause = error.cause
            raise cause if isinstance(cause, EdgegrainError) else ServiceError(first_line(cause)) from error
        except RayError as error:
            if not names:
                raise ServiceError(f"no worker could start: {str(error).strip().splitlines()[-1]}") from error
            part = Tally()
            if alone:
                part.fail(names[0], "the process that worked on it died or hung; the file may be malicious")
            else:
                again += names
            give(actor_class.remote(plan), [])
        else:
            if again:
                give(actor, [again.popleft()], alone=True)
            elif (batch := next(batches, None)) is not None:
                give(actor, batch)
            else:  # the actor ends
                listed = True
        yield part


def _ahead(batches: Iterator[list[str]]) -> Generator[list[str], None, None]:
    """The same batches, up to `AHEAD` of them listed by a thread while others are being processed."""
    thread = ThreadPoolExecutor(1)
    try:
        waiting = deque(thread.submit(next, batches, None) for _ in range(AHEAD))
        while (batch := waiting.popleft().result()) is not None:
            waiting.append(thread.submit(next, batches, None))
            yield batch
    finally:
        thread.shutdown(cancel_futures=True)


def run_batch(
    plan: BatchPlan, failures: Path, *, workers: int | None = None, gpus: float = 0.0, ray_address: str | None = None,
    report: Callable[[Tally], None] = lambda total: None
) -> Tally:
    """Run a plan on a Ray cluster; a folder as target is locked, so that another run cannot write into it.

    Args:
        plan: parameters of the run; without ``ray_address`` its ``threads`` are replaced by the cores per worker.
        failures: file for failures, one JSON object per line; removed if nothing failed.
        workers: number of worker processes; None for one per core.
        gpus: GPUs reserved per worker.
        ray_address: a running Ray cluster; None to start Ray on this machine.
        report: called with the counts so far, after every part.

    Returns:
        The counts, with the first `SHOWN` failures.
    """
    source, target = open_store(plan.source), open_store(plan.target)
    total, counting, cores = Tally(), threading.Lock(), os.cpu_count() or 1
    with ExitStack() as stack:
        if isinstance(target, FolderStore):
            stack.enter_context(target.held())
        note = stack.enter_context(_failures_file(failures, plan.force))

        def count(part: Tally) -> None:
            with counting:
                for failure in part.failures:
                    note(failure)
                total.add(part)
                del total.failures[SHOWN:]
                report(total)

        batches = stack.enter_context(closing(_ahead(pending_batches(plan, source, target, count))))
        if (first := next(batches, None)) is not None:
            stack.enter_context(ray_cluster(ray_address, cpus=workers or cores))
            workers = workers or cluster_cores()
            if ray_address is None:
                plan = replace(plan, threads=max(1, cores // workers))
            for part in tallies(plan, itertools.chain([first], batches), workers, gpus):
                count(part)
    return total


@contextmanager
def _failures_file(path: Path, force: bool) -> Iterator[Callable[[dict[str, str]], None]]:
    """Open a function that writes failures as lines at once; without failures the file is removed at the end.

    A device such as ``/dev/null`` is written to and stays. `ExistsError` if the file exists and was not written by an
    earlier run.
    """
    device = path.exists() and not path.is_file()
    if not force and path.is_file() and not _is_failures_file(path):
        raise ExistsError(path, "it is not a list of failures; choose another file with --failures, or pass --force to "
                                "replace it")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        try:
            yield lambda failure: print(json.dumps(failure), file=file, flush=True)
        finally:
            if not device and file.tell() == 0:
                path.unlink(missing_ok=True)


def _is_failures_file(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8") as file:
            line = file.readline(1 << 20)
        return not line or json.loads(line).keys() == {"name", "error"}
    except (ValueError, AttributeError):
        return False
