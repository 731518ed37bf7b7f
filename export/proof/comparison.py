"""Comparison of exports with the int64 reference, byte by byte, and of float encoders with each other."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import statistics
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import repeat
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from codec_contract.errors import ExportError
from edge_encoder.integer_network import IntegerNetwork, run_reference
from export.encoder.graph import EncoderGraph
from export.proof.proof_inputs import CheckInput, make_inputs
from export.proof.runtimes import LARGE_BATCH, Runtime, load_runtimes

REFERENCE = "int64 reference"
"""The name of `run_reference` among the runtimes."""


def reference_runtime(network: IntegerNetwork) -> Runtime:
    """`run_reference` of a network as a runtime, which `compare` takes as the truth."""
    return Runtime(REFERENCE, partial(run_reference, network))


def compare(chunks: Iterable[Chunk]) -> list[dict[str, Any]]:
    """Compare all runtimes with the one named `REFERENCE`, `reference_runtime`.

    Returns:
        A row of the report for each other runtime: ``name``, ``inputs``, ``bytes_compared``, ``differing_bytes`` and,
        if there are any, ``first_difference``, the name of the first input whose LR differs.
    """
    rows: dict[str, dict[str, Any]] = {}
    for chunk in chunks:
        expected = chunk.lrs[REFERENCE]
        for name, lr in chunk.lrs.items():
            if name == REFERENCE:
                continue
            row, wrong = rows.setdefault(name, {
                "name": name, "inputs": 0, "bytes_compared": 0, "differing_bytes": 0}), lr != expected
            row["inputs"] += len(chunk.names)
            row["bytes_compared"] += expected.size
            row["differing_bytes"] += int(wrong.sum())
            if wrong.any():
                row.setdefault("first_difference", chunk.names[int(wrong.any((1, 2, 3)).argmax())])
    return list(rows.values())


def flip_report(chunks: Iterable[Chunk]) -> dict[str, Any]:
    """The report's section on LR bytes that differ between every two of at least two runtimes of a float encoder."""
    collected: dict[str, list[np.ndarray]] = {}
    count = 0
    for chunk in chunks:
        for name, lr in chunk.lrs.items():
            collected.setdefault(name, []).append(lr)
        count += len(chunk.names)
    outputs = {name: np.concatenate(parts).astype(np.int16) for name, parts in collected.items()}
    steps = {pair: np.abs(outputs[pair[0]] - outputs[pair[1]]) for pair in itertools.combinations(outputs, 2)}
    size = next(iter(outputs.values())).size
    flips = {pair: round(1e6 * np.count_nonzero(step) / size, 2) for pair, step in steps.items()}
    worst = max(flips, key=lambda pair: flips[pair])
    return {
        "inputs": count, "bytes_compared": size, "runtimes": list(outputs),
        "flips_per_million": {"median": round(statistics.median(flips.values()), 2), "worst": flips[worst],
                              "worst_pair": list(worst)},
        "largest_step": max(int(step.max()) for step in steps.values()),
        "pairs": [{"runtimes": list(pair), "flips_per_million": value} for pair, value in flips.items()],
    }


class Chunk(NamedTuple):
    """Some inputs and what every runtime computed of them."""

    kinds: list[str]
    names: list[str]
    lrs: dict[str, np.ndarray]
    """Runtime -> uint8 ``[N, lr, lr, 3]``."""


def run_all(runtimes: Sequence[Runtime], inputs: Iterable[CheckInput], threads: int | None = None) -> Iterator[Chunk]:
    """Run every runtime on every input.

    Args:
        runtimes: with different names.
        inputs: consumed once, a batch of the largest runtime's at a time.
        threads: number of runtimes that may run at the same time [default: that of the cores].
    """
    iterator = iter(inputs)
    size = max(runtime.batch for runtime in runtimes)
    with ThreadPoolExecutor(threads) as pool:
        while batch := list(itertools.islice(iterator, size)):
            rgb = np.stack([item.picture for item in batch])
            futures = {runtime.name: pool.submit(_run, runtime, rgb) for runtime in runtimes if runtime.concurrent}
            lrs = {name: future.result() for name, future in futures.items()}
            lrs |= {runtime.name: _run(runtime, rgb) for runtime in runtimes if not runtime.concurrent}
            yield Chunk([item.kind for item in batch], [item.name for item in batch], lrs)


def _run(runtime: Runtime, rgb: np.ndarray) -> np.ndarray:
    if runtime.fixed_batch and len(rgb) < runtime.batch:  # repeat pictures, drop their LRs
        return runtime.encode(rgb[np.arange(runtime.batch) % len(rgb)])[: len(rgb)]
    return np.concatenate([runtime.encode(rgb[start : start + runtime.batch])
                           for start in range(0, len(rgb), runtime.batch)])


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
        """All inputs of a job, in their order."""
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
    """Processes that are worth the time that they take to start, for ``count`` inputs; each takes about 1 GB."""
    return max(1, min(os.cpu_count() or 1, 4, count // (LARGE_BATCH // 2)))


@lru_cache(maxsize=1)
def _runtimes(job: ProofJob) -> list[Runtime]:
    runtimes = load_runtimes(job.graph, job.artefacts)
    if job.network is None:
        return [runtime for runtime in runtimes if not runtime.slow]
    return [reference_runtime(job.network), *runtimes]


def _started_pool(processes: int) -> ProcessPoolExecutor:
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), initializer=_end_with_parent)
    # By default the threads of NumPy (int64 reference, Core ML program) and of torch wait in busy loops, which took
    # most of the time where more threads than cores wanted to run.
    waiting = {"OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    before = {name: os.environ.get(name) for name in waiting}
    os.environ.update(waiting)
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
