"""The runs of a proof, in one process or in several that share the inputs."""

from __future__ import annotations

import multiprocessing
import os
import signal
import statistics
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import repeat
from multiprocessing.connection import wait
from pathlib import Path

import numpy as np

from codec_contract.errors import ExportError
from edge_encoder.integer_network import IntegerNetwork
from export.encoder.graph import EncoderGraph
from export.proof.comparison import REFERENCE, reference_runtime
from export.proof.proof_inputs import make_inputs
from export.proof.running import Chunk, run_all
from export.proof.runtimes import LARGE_BATCH, Runtime, load_runtimes

MAX_PROCESSES = 4
"""Each takes about 1 GB."""
_WAITING = {"OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
"""Environment of the processes. By default the threads of NumPy (int64 reference, Core ML program) and of torch wait in
busy loops, which took most of the time where more threads than cores wanted to run."""


@dataclass(frozen=True, eq=False)
class ProofJob:
    """An encoder's files, and the inputs on which its runtimes are compared.

    Attributes:
        graph: the encoder.
        artefacts: format -> file.
        count: number of inputs.
        network: of an exact encoder; its int64 reference is one of the runtimes. Float encoders skip slow ones.
        pictures, seed: of the inputs.
        key: two jobs with the same key are the same; other processes get copies.
    """

    graph: EncoderGraph
    artefacts: Mapping[str, Path]
    count: int
    network: IntegerNetwork | None = None
    pictures: Sequence[Path] = ()
    seed: int = 0
    key: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ProofJob) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def run(self, span: slice, threads: int | None = None) -> Iterator[Chunk]:
        """The inputs of ``span`` on all runtimes, of which ``threads`` run at the same time."""
        inputs = make_inputs(self.graph.hr, self.count, network=self.network, pictures=self.pictures, seed=self.seed,
                             span=span)
        return run_all(_runtimes(self), inputs, threads)

    def latencies(self) -> dict[str, float]:
        """Runtime -> median seconds for one picture, of those that take single pictures and are not slow."""
        picture = np.random.default_rng(0).integers(0, 256, (self.graph.hr, self.graph.hr, 3), dtype=np.uint8)
        return {runtime.name: median_latency(runtime, picture) for runtime in _runtimes(self)
                if not runtime.slow and runtime.batch == 1 and runtime.name != REFERENCE}


class ProofRunner:
    """Runs jobs in ``processes`` processes, each of which loads all runtimes and makes its inputs itself.

    One process stays in this one and runs its runtimes in threads, which often wait for Python's lock.
    """

    def __init__(self, processes: int = 1) -> None:
        self.processes = processes
        others = multiprocessing.active_children()
        self._executor = None if processes == 1 else _started_pool(processes)
        self._children = [child for child in multiprocessing.active_children() if child not in others]

    def __enter__(self) -> ProofRunner:
        return self

    def __exit__(self, error: object, *_: object) -> None:
        _runtimes.cache_clear()
        if self._executor:
            for child in self._children if error else []:
                child.terminate()
            self._executor.shutdown(cancel_futures=True)

    def run(self, job: ProofJob) -> Iterator[Chunk]:
        """All inputs of a job, in their order.

        Raises:
            ExportError: a process ended before it was done.
        """
        if self._executor is None:
            yield from job.run(slice(None))
            return
        size = min(LARGE_BATCH, -(-job.count // self.processes))
        spans = [slice(start, start + size) for start in range(0, job.count, size)]
        try:
            for chunks in self._executor.map(_run_span, repeat(job), spans):
                yield from chunks
        except BrokenProcessPool as error:
            raise ExportError(f"a process of the comparison ended early ({error}); it may have needed more memory than "
                              "there was") from error

    def latencies(self, job: ProofJob) -> dict[str, float]:
        """See `ProofJob.latencies`; measured while nothing else runs."""
        return self._executor.submit(ProofJob.latencies, job).result() if self._executor else job.latencies()


def median_latency(runtime: Runtime, picture: np.ndarray, repeats: int = 15) -> float:
    """Median seconds for one uint8 ``[hr, hr, 3]`` picture after a warm-up call."""
    batch = np.repeat(picture[None], runtime.batch if runtime.fixed_batch else 1, 0)
    runtime.encode(batch)
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        runtime.encode(batch)
        seconds.append((time.perf_counter() - start) / len(batch))
    return statistics.median(seconds)


def processes_for(count: int) -> int:
    """Processes that are worth the time that they take to start, for ``count`` inputs."""
    return max(1, min(os.cpu_count() or 1, MAX_PROCESSES, count // (LARGE_BATCH // 2)))


@lru_cache(maxsize=1)
def _runtimes(job: ProofJob) -> list[Runtime]:
    runtimes = load_runtimes(job.graph, job.artefacts)
    if job.network is None:
        return [runtime for runtime in runtimes if not runtime.slow]
    return [reference_runtime(job.network), *runtimes]


def _started_pool(processes: int) -> ProcessPoolExecutor:
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), initializer=_end_with_parent)
    before = {name: os.environ.get(name) for name in _WAITING}
    os.environ.update(_WAITING)
    try:
        for _ in range(processes):
            pool.submit(os.getpid)  # starts a process, which inherits the environment
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    return pool


def _run_span(job: ProofJob, span: slice) -> list[Chunk]:
    return list(job.run(span, threads=1))


def _end_with_parent() -> None:
    """End silently at Ctrl-C, and when the process that started this one has ended."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=lambda: (wait([parent.sentinel]), os._exit(1)), daemon=True).start()
