"""Export of encoders with proof: every runtime of this machine runs every file and is compared byte by byte.

An exact encoder is compared with the int64 reference, a float encoder's runtimes with each other.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import statistics
import tempfile
import threading
import time
import timeit
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import repeat
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from codec_contract.errors import ExistsError, ExportError
from codec_contract.files import replace_folder
from edge_encoder.integer_network import IntegerNetwork, integer_digest, prove_bound, run_reference
from export.encoder import export_encoder
from export.encoder.graph import FORMATS, EncoderGraph, TfliteConverter, exact_graph, float_contrast
from export.proof import report as reports
from export.proof.inputs import CheckInput, input_counts, make_inputs
from export.proof.report import ProofReport
from export.proof.runtimes import LARGE_BATCH, Runtime, load_runtimes

EXACT_INPUTS, QUICK_INPUTS, CONTRAST_INPUTS = 200, 20, 100
FLOAT_INPUTS = 24
"""Fewer: GRAIN's float encoder takes twenty times as long as the exact one."""
REFERENCE = "int64 reference"
"""The name of `run_reference` among the runtimes."""


@dataclass(frozen=True)
class ExportOptions:
    """Options of an encoder's export and comparison."""

    source: str  # of the weights, in the report
    inputs: int
    formats: Sequence[str] = tuple(FORMATS)
    tflite_converter: TfliteConverter = TfliteConverter.direct
    pictures: Sequence[Path] = ()  # real ones to compare on
    seed: int = 0
    force: bool = False
    quick: bool = False  # said in the report
    console: Any = None  # shows progress


def export_proven(encoder: IntegerNetwork | EncoderGraph, out_dir: Path, options: ExportOptions, *,
                  contrast: bool = True) -> ProofReport:
    """Write an exact (integer) or a float encoder's files with their reports; all appear together, at the end.

    Differing bytes raise no error: the report states them, and `report.require_exact` raises.
    """
    exact = isinstance(encoder, IntegerNetwork)
    network, graph = (encoder, exact_graph(encoder)) if isinstance(encoder, IntegerNetwork) else (None, encoder)
    bound = prove_bound(network) if network else None
    with (_staged(out_dir, options) as staging, ExportProgress(options.console) as progress,
          ProofRunner(processes_for(options.inputs) if exact else 1) as runner):
        def run(job: ProofJob, text: str) -> Iterator[Chunk]:
            advance = progress.count(text, job.count)
            for chunk in runner.run(job):
                yield chunk
                advance(len(chunk.names))

        artefacts = export_encoder(graph, staging, options.formats, tflite_converter=options.tflite_converter,
                                   progress=lambda name: progress.step(f"writing {name}"))
        report = reports.new_report(graph, artefacts, source=options.source)
        job = ProofJob(graph, artefacts, options.inputs, network, options.pictures, options.seed)
        sections: dict[str, Any] = {"quick": options.quick}
        if network is None or bound is None:
            sections["flips"] = flip_report(run(job, "comparing runtimes"))
        else:
            rows = compare(run(job, "comparing with the int64 reference"))
            if not rows or any(row["inputs"] != options.inputs for row in rows):
                ran = ", ".join("{name}: {inputs}".format_map(row) for row in rows) or "none ran"
                raise ExportError(f"not every runtime ran on all {options.inputs} inputs: {ran}")
            progress.step("measuring latency")
            latencies = runner.latencies(job)
            sections["bound"] = reports.bound_section(bound)
            sections["inputs"] = {kind: count for kind, count in input_counts(options.inputs).items() if count}
            sections["runtimes"] = [row | ({"milliseconds": round(1000 * latencies[row["name"]], 3)}
                                           if row["name"] in latencies else {}) for row in rows]
        if network is not None and contrast:
            with tempfile.TemporaryDirectory(prefix="edgegrain-float-") as folder:  # its files are not kept
                progress.step("exporting an ordinary float encoder for contrast")
                other = float_contrast(network, options.seed)
                job = ProofJob(other, export_encoder(other, folder, options.formats),
                               min(options.inputs, CONTRAST_INPUTS), None, options.pictures, options.seed)
                sections["float_contrast"] = {
                    "architecture": other.name, **flip_report(run(job, "comparing runtimes of the float encoder"))}
        report |= sections
        if tflite := report["files"].get(FORMATS["tflite"]):
            tflite["converter"] = str(options.tflite_converter)
        if network is not None:
            report["encoder"]["digest"] = integer_digest(network).hex()
        reports.write_report(report, staging)
    return report


@contextmanager
def _staged(out_dir: Path, options: ExportOptions) -> Iterator[Path]:
    """A folder whose files and packages move to ``out_dir`` at the end, unless an error or Ctrl-C ends it."""
    def refuse_existing() -> None:
        if out_dir.exists() and not out_dir.is_dir():
            raise ExistsError(out_dir, "it is a file; name a folder")
        names = [*(FORMATS[kind] for kind in options.formats if kind in FORMATS), *reports.REPORTS]
        existing = [path for name in names if (path := out_dir / name).exists()]
        if existing and not options.force:
            raise ExistsError(existing[0], "choose another folder (--out), or pass force (--force) to replace it")

    refuse_existing()
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    place = out_dir if out_dir.is_dir() else out_dir.parent  # a folder that exists may be on another file system
    with tempfile.TemporaryDirectory(prefix=f".{out_dir.name}.", dir=place) as folder:
        yield Path(folder)
        refuse_existing()  # another export may have written there meanwhile
        out_dir.mkdir(exist_ok=True)
        for path in sorted(Path(folder).iterdir()):
            (replace_folder if path.is_dir() else os.replace)(path, out_dir / path.name)


class Chunk(NamedTuple):
    """Some inputs and what every runtime computed of them."""

    names: list[str]
    lrs: dict[str, np.ndarray]
    """Runtime -> uint8 ``[N, lr, lr, 3]``."""


def compare(chunks: Iterable[Chunk]) -> list[dict[str, Any]]:
    """A row of the report for each runtime but the one named `REFERENCE`, with which they are compared."""
    rows: dict[str, dict[str, Any]] = {}
    for chunk in chunks:
        expected = chunk.lrs[REFERENCE]
        for name, lr in chunk.lrs.items():
            if name == REFERENCE:
                continue
            row = rows.setdefault(name, {"name": name, "inputs": 0, "bytes_compared": 0, "differing_bytes": 0})
            wrong = lr != expected
            row["inputs"] += len(chunk.names)
            row["bytes_compared"] += expected.size
            row["differing_bytes"] += int(wrong.sum())
            if wrong.any():
                row.setdefault("first_difference", chunk.names[int(wrong.any((1, 2, 3)).argmax())])
    return list(rows.values())


def flip_report(chunks: Iterable[Chunk]) -> dict[str, Any]:
    """The report's section on LR bytes that differ between every two of at least two runtimes of a float encoder."""
    chunks = list(chunks)
    outputs = {name: np.concatenate([chunk.lrs[name] for chunk in chunks]).astype(np.int16) for name in chunks[0].lrs}
    steps = {pair: np.abs(outputs[pair[0]] - outputs[pair[1]]) for pair in itertools.combinations(outputs, 2)}
    size = next(iter(outputs.values())).size
    flips = {pair: round(1e6 * np.count_nonzero(step) / size, 2) for pair, step in steps.items()}
    worst = max(flips, key=lambda pair: flips[pair])
    return {
        "inputs": sum(len(chunk.names) for chunk in chunks), "bytes_compared": size, "runtimes": list(outputs),
        "flips_per_million": {"median": round(statistics.median(flips.values()), 2), "worst": flips[worst],
                              "worst_pair": list(worst)},
        "largest_step": max(int(step.max()) for step in steps.values()),
        "pairs": [{"runtimes": list(pair), "flips_per_million": value} for pair, value in flips.items()],
    }


def reference_runtime(network: IntegerNetwork) -> Runtime:
    """`run_reference` of a network as a runtime."""
    return Runtime(REFERENCE, partial(run_reference, network))


def run_all(runtimes: Sequence[Runtime], inputs: Iterable[CheckInput], threads: int | None = None) -> Iterator[Chunk]:
    """Run every runtime on every input, ``threads`` (by default all cores) of them at the same time."""
    iterator = iter(inputs)
    size = max(runtime.batch for runtime in runtimes)
    with ThreadPoolExecutor(threads) as pool:
        while batch := list(itertools.islice(iterator, size)):
            rgb = np.stack([item.picture for item in batch])
            futures = {runtime.name: pool.submit(_run, runtime, rgb) for runtime in runtimes if runtime.concurrent}
            lrs = {name: future.result() for name, future in futures.items()}
            lrs |= {runtime.name: _run(runtime, rgb) for runtime in runtimes if not runtime.concurrent}
            yield Chunk([item.name for item in batch], lrs)


def _run(runtime: Runtime, rgb: np.ndarray) -> np.ndarray:
    if runtime.fixed_batch and len(rgb) < runtime.batch:  # repeat pictures, drop their LRs
        return runtime.encode(rgb[np.arange(runtime.batch) % len(rgb)])[: len(rgb)]
    return np.concatenate([runtime.encode(rgb[start : start + runtime.batch])
                           for start in range(0, len(rgb), runtime.batch)])


@dataclass(frozen=True, eq=False)
class ProofJob:
    """An encoder's files, and the inputs on which its runtimes are compared.

    With an integer ``network`` its int64 reference is one of the runtimes; float encoders skip slow runtimes.
    """

    graph: EncoderGraph
    artefacts: Mapping[str, Path]  # format -> file
    count: int
    network: IntegerNetwork | None = None
    pictures: Sequence[Path] = ()
    seed: int = 0
    key: str = field(default_factory=lambda: uuid.uuid4().hex)  # other processes get copies of the same job

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ProofJob) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def run(self, span: slice = slice(None), threads: int | None = None) -> Iterator[Chunk]:
        """The inputs of ``span`` on all runtimes, as `run_all`."""
        inputs = make_inputs(self.graph.hr, self.count, network=self.network, pictures=self.pictures, seed=self.seed,
                             span=span)
        return run_all(_runtimes(self), inputs, threads)

    def latencies(self) -> dict[str, float]:
        """Runtime -> median seconds for one picture, of those that take single pictures and are not slow."""
        picture = np.random.default_rng(0).integers(0, 256, (1, self.graph.hr, self.graph.hr, 3), dtype=np.uint8)
        return {runtime.name: statistics.median(
                    timeit.repeat(partial(runtime.encode, picture), number=1, repeat=16)[1:])  # the first warms up
                for runtime in _runtimes(self)
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
            yield from job.run()
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


LINE_EVERY = 15.0
"""Seconds between two lines of one step."""


class ExportProgress:
    """Shows the steps of an export: bars on a terminal, else lines; nothing without a console."""

    def __init__(self, console: Any) -> None:
        self._console, self._bars = console, None
        if console is not None and console.is_terminal:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

            self._bars = Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                                  TimeElapsedColumn(), console=console, transient=True)
        self._step, self._started, self._written = "", 0.0, 0.0

    def __enter__(self) -> ExportProgress:
        if self._bars:
            self._bars.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self._bars:
            self._bars.stop()
        elif kind is None:
            self._line(self._step)

    def step(self, text: str) -> None:
        """Begin a step, and end the one before."""
        self.count(text, None)

    def count(self, text: str, total: int | None) -> Callable[[int], None]:
        """Begin a step of ``total`` parts; the returned function is called with the number of parts that are done."""
        if bars := self._bars:
            for task in bars.task_ids:
                bars.remove_task(task)
            return partial(bars.advance, bars.add_task(text, total=total))
        self._line(self._step)
        self._step, self._started, self._written = text, time.monotonic(), time.monotonic()
        parts = 0

        def advance(done: int) -> None:
            nonlocal parts
            parts += done
            if time.monotonic() - self._written >= LINE_EVERY and parts != total:
                self._written = time.monotonic()
                self._line(f"{text}: {parts} of {total}")

        return advance

    def _line(self, text: str) -> None:
        if text and self._console is not None:
            self._console.print(f"{text}, {time.monotonic() - self._started:.0f} s", highlight=False, soft_wrap=True)
