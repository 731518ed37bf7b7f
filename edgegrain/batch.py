"""``edgegrain batch``: compress or restore the files of a folder or an object store, on Ray.

The driver lists names without a result and counts; workers, which are Ray actors, read files, compute and write
results. Only names and counts pass through Ray. Ray Core, not Ray Data: it tells which names a worker that died had.
"""

from __future__ import annotations

import faulthandler
import itertools
import json
import os
import secrets
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, chdir, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from codec_contract.errors import (
    BundleError,
    DeviceError,
    DeviceMemoryError,
    EdgegrainError,
    ImageError,
    ServiceError,
    first_line,
    needs_extra,
)
from codec_contract.files import printable_name
from codec_contract.fit import MAX_PIXELS, Fit, Size
from codec_contract.onnx_runtime import available_cores, captured_stderr
from codec_contract.payload import PAYLOAD_SUFFIX
from edge_encoder.preprocessing import WHITE
from edgegrain.pictures import FORMATS, picture_file
from edgegrain.stores import Store, Verb, candidates
from sdk.api import compress_within
from sdk.codec import Codec, attempt
from sdk.inputs import BATCH, read_restore_source
from sdk.payload import Payload, Scene
from server_decoder.providers import Device

THREADS = 16
"""Files that a worker reads or writes at once; requests to object stores are slow and need no processor time."""
MAX_BYTES = 1 << 28
"""Largest file that is read."""
START_SECONDS, STORE_SECONDS, FILE_SECONDS = 600.0, 600.0, 60.0
"""Longest time to open the bundles; to read or write `THREADS` files; and for a file, or a batch of a device. A worker
that exceeds it is replaced, and the file is a failure."""
FAILURES = "failures.jsonl"
SHOWN = 10
"""Most failures that are returned; the file has all of them."""

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # no usage statistics
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # no announcement on stderr
    "RAY_BACKEND_LOG_LEVEL": "fatal",
}
PRIVATE = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # despite its name, makes Ray use the loopback address on Linux too
    "RAY_AUTH_MODE": "token",  # with a token of the environment: otherwise Ray would store one in the home folder
}
ATTEMPTS = 3
"""Attempts to start: Ray's processes wait 15 s for each other, which can be too short on a busy machine."""
OBJECT_STORE_BYTES = 256 << 20
"""Shared memory of a cluster that is started here; it holds names and counts, never pictures."""


@dataclass(frozen=True)
class BatchPlan:
    """Parameters of a run, for all its workers.

    Bundles after the first are tried if a payload exceeds ``max_bytes``, or names another one. Files below ``inner``,
    the name of the target in the source, are no input."""

    source: str
    target: str
    verb: Verb
    bundles: Sequence[str]
    suffix: str
    fit: Fit | None = None
    align: bool = True
    quality: str | None = None
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
        """``a.jpg`` becomes ``a.jpg.grain``, as there may be an ``a.png``; ``a.grain`` becomes ``a.png``."""
        return (name.removesuffix(PAYLOAD_SUFFIX) if self.verb == "restore" else name) + self.suffix


@dataclass
class Tally:
    """Counts of processed files; a folder that cannot be listed is a failure ``{"name", "error"}`` too."""

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

    def report(folder: str, error: Exception) -> None:
        part = Tally()
        part.fail(folder, error)
        count(part)

    def waiting() -> Iterator[str]:
        for name in candidates(source.names(report), plan.verb, plan.inner):
            if not plan.force and target.has(plan.result(name)):
                count(Tally(skipped=1))
            else:
                yield name

    names = waiting()
    while batch := list(itertools.islice(names, plan.batch_size)):
        yield batch


class Worker:
    """Compresses or restores named files; an error of one does not affect the others. Runs as a Ray actor."""

    def __init__(self, plan: BatchPlan) -> None:
        self._plan = plan
        self._source, self._target = Store(plan.source), Store(plan.target)
        self._threads = ThreadPoolExecutor(THREADS)

    def work(self, names: Sequence[str]) -> Tally:
        """Process these names; without any, open the bundles. The process ends if a step hangs or the device fails."""
        tally = Tally()
        try:
            _end_after(START_SECONDS)
            _ = self._codecs
            for first in range(0, len(names), THREADS):
                self._process(names[first : first + THREADS], tally)
        finally:
            faulthandler.cancel_dump_traceback_later()
        return tally

    def _process(self, names: Sequence[str], tally: Tally) -> None:
        _end_after(STORE_SECONDS)
        files = _successes(tally, zip(names, self._threads.map(partial(attempt, self._read), names), strict=True))
        made = _successes(tally, zip(files, self._results(list(files.values())), strict=True))
        _end_after(STORE_SECONDS)
        results = self._threads.map(partial(attempt, self._target.write), map(self._plan.result, made), made.values())
        for name in _successes(tally, zip(made, results, strict=True)):
            tally.add(Tally(1, bytes_in=len(files[name]), bytes_out=len(made[name])))

    @cached_property
    def _codecs(self) -> list[Codec]:
        plan = self._plan
        codecs = [Codec(folder, plan.device, plan.threads) for folder in plan.bundles]
        decoder = codecs[0]._open.decoder if plan.verb == "restore" else None
        if decoder is not None and plan.device != "cpu" and decoder.lr_size is not None:
            decoder.warm_up((1, BATCH))  # keeps CUDA graphs for the sizes of groups
        return codecs

    def _read(self, name: str) -> bytes:
        data = self._source.read(name, MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ImageError(f"{printable_name(name)} has more than {MAX_BYTES} bytes")
        return data

    def _results(self, files: Sequence[bytes]) -> Iterator[bytes | Exception]:
        """The result of each file, or its error."""
        plan = self._plan
        if plan.verb == "compress":
            rate, whole = (plan.quality, plan.max_bytes), (plan.fit, WHITE, plan.max_pixels, plan.align)
            for data in files:
                _end_after(FILE_SECONDS)
                yield attempt(compress_within, self._codecs, *rate, data, *whole)
            return
        together, sizes = (1, ()) if plan.device == "cpu" else (BATCH, (1, BATCH))  # where batches are faster
        for first in range(0, len(files), together):
            _end_after(FILE_SECONDS)
            for codec, group in itertools.groupby(files[first : first + together], self._codec_of):
                items = [(data, plan.size, plan.strength) for data in group]
                for picture in codec._restore_each(items, plan.max_pixels, plan.mark, batch_sizes=sizes):
                    if isinstance(picture, Exception):
                        yield picture
                    else:
                        yield attempt(picture_file, picture, FORMATS[plan.suffix], fast=True)

    def _codec_of(self, data: bytes) -> Codec:
        """The first codec with the bundle that a payload or scene names; the first one for anything else."""
        source = attempt(read_restore_source, data)
        payload = source.faces[0] if isinstance(source, Scene) else source
        able = (each for each in self._codecs if isinstance(payload, Payload) and each.can_restore(payload))
        return next(able, self._codecs[0])


def _end_after(seconds: float) -> None:
    """End this process unless it gets here again, or is done, within ``seconds``."""
    faulthandler.dump_traceback_later(seconds, exit=True, file=2)


def _successes(tally: Tally, results: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """The results by name; failures are counted and left out."""
    found = {}
    for name, result in results:
        if isinstance(result, BundleError):  # of every file
            raise result
        if isinstance(result, DeviceError) and not isinstance(result, DeviceMemoryError):
            os._exit(1)
        if isinstance(result, Exception):  # of any library: this file may be malicious
            tally.fail(name, result)
        else:
            found[name] = result
    return found


def tallies(plan: BatchPlan, batches: Iterator[list[str]], workers: int, gpus: float = 0.0) -> Iterator[Tally]:
    """Process batches of names with Ray actors; the files of one that dies are tried one by one, to find the reason."""
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


def run_batch(
    plan: BatchPlan,
    failures: Path,
    workers: int | None,
    gpus: float,
    ray_address: str | None,
    report: Callable[[Tally], None],
) -> Tally:
    """Run a plan on a Ray cluster, by default one of this machine; returns the counts, with the first `SHOWN` failures.
    The file ``failures`` gets a line for each, and is removed if nothing failed; ``report`` gets the counts so far."""
    source, target, total, cores = Store(plan.source), Store(plan.target), Tally(), available_cores()
    with ExitStack() as stack:
        stack.enter_context(target.held())
        file = stack.enter_context(failures.open("w", encoding="utf-8", buffering=1))

        def count(part: Tally) -> None:
            file.writelines(json.dumps(failure) + "\n" for failure in part.failures)
            total.add(part)
            del total.failures[SHOWN:]
            report(total)

        batches = pending_batches(plan, source, target, count)
        if (first := next(batches, None)) is not None:
            found = stack.enter_context(ray_cluster(ray_address, workers or cores))
            workers = workers or found
            if ray_address is None:
                plan = replace(plan, threads=max(1, cores // workers))
            for part in tallies(plan, itertools.chain([first], batches), workers, gpus):
                count(part)
        if not total.failed:
            failures.unlink()
    return total


@contextmanager
def ray_cluster(address: str | None, cpus: int) -> Iterator[int]:
    """Start a private Ray with these cores, or connect to a running cluster, until the block ends; yields its cores."""
    private = {} if address else PRIVATE | {"RAY_AUTH_TOKEN": secrets.token_hex(32)}
    for name, value in (QUIET | private).items():
        os.environ.setdefault(name, value)
    with needs_extra("ray", "working on Ray needs", ServiceError):
        import ray
    options: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": "ERROR"}
    with ExitStack() as stack:
        # Paths of sockets are limited to some hundred characters, so not in TMPDIR, which may be long.
        short = "/tmp" if os.path.isdir("/tmp") else None
        folder = stack.enter_context(
            tempfile.TemporaryDirectory("", "edgegrain-ray-", short, ignore_cleanup_errors=True)
        )
        if address is None:
            options |= {"address": "local", "num_cpus": cpus, "include_dashboard": False, "_temp_dir": folder}
            options["object_store_memory"] = OBJECT_STORE_BYTES
        stack.callback(ray.shutdown)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                # Workers import from the current directory of this moment: an empty one.
                with captured_stderr(), chdir(folder):  # Ray tells that its log level is set
                    ray.init(**options)
                break
            except Exception as error:  # Ray also raises plain exceptions
                ray.shutdown()
                if address is None and attempt < ATTEMPTS:
                    continue
                where = "did not start on this machine" if address is None else f"cannot be reached at {address!r}"
                raise ServiceError(f"Ray {where}: {' '.join(str(error).split())}") from error
        yield max(1, int(ray.cluster_resources().get("CPU", 1)))
