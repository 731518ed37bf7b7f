"""Export of encoders with proof: every runtime of this machine runs every file and is compared byte by byte.

An exact encoder is compared with the int64 reference, a float encoder with torch.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from codec_contract.errors import ExistsError, ExportError
from codec_contract.files import replace_folder
from edge_encoder.integer_network import ACCUMULATOR_LIMIT, IntegerNetwork, integer_digest, prove_bound, run_reference
from export.encoder import export_encoder
from export.encoder.graph import FORMATS, EncoderGraph, TfliteConverter, exact_graph
from export.proof.inputs import CheckInput, input_counts, make_inputs
from export.proof.report import REPORT, ProofReport, new_report
from export.proof.runtimes import LARGE_BATCH, Runtime, load_runtimes, torch_runtimes

LINE_EVERY = 15.0
"""Seconds between two lines of one step."""


def export_proven(
    encoder: IntegerNetwork | EncoderGraph,
    out_dir: Path,
    *,
    source: str,
    inputs: int,
    formats: Sequence[str] = tuple(FORMATS),
    tflite_converter: TfliteConverter = TfliteConverter.direct,
    pictures: Sequence[Path] = (),
    force: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> ProofReport:
    """Write an exact (integer) or a float encoder's files with their report; all appear together, at the end.

    ``source``, of the weights, stands in the report; ``pictures`` are real ones to compare on; ``say`` is called with
    lines that show the progress. Differing bytes raise no error: the report states them, and `report.require_exact`
    raises.
    """
    network, graph = (encoder, exact_graph(encoder)) if isinstance(encoder, IntegerNetwork) else (None, encoder)
    with _staged(out_dir, formats, force) as staging:
        artefacts = export_encoder(encoder, staging, formats, tflite_converter, lambda name: say(f"writing {name}"))
        report = new_report(graph, artefacts, source=source)
        job = ProofJob(graph, artefacts, inputs, network, pictures)
        report["inputs"] = input_counts(inputs, adversarial=network is not None)
        report["reference"] = "the int64 reference" if network else "torch"
        report["runtimes"] = compare(_with_progress(job, f"comparing with {report['reference']}", say))
        if network is not None:
            bounds = {name: round(bound, 3) for name, bound in prove_bound(network).items()}
            limit, worst = ACCUMULATOR_LIMIT.bit_length() - 1, max(bounds.values())
            report["bound"] = {"limit_log2": limit, "worst_log2": worst, "layers": bounds}
            report["encoder"]["digest"] = integer_digest(network).hex()
        if tflite := report["files"].get(FORMATS["tflite"]):
            tflite["converter"] = str(tflite_converter)
        (staging / REPORT).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return report


@contextmanager
def _staged(out_dir: Path, formats: Sequence[str], force: bool) -> Iterator[Path]:
    """A folder whose files and packages move to ``out_dir`` at the end, unless an error or Ctrl-C ends it."""
    if out_dir.exists() and not out_dir.is_dir():
        raise ExistsError(out_dir, "it is a file; name a folder")
    names = [*(FORMATS[kind] for kind in formats if kind in FORMATS), REPORT]
    existing = [path for name in names if (path := out_dir / name).exists()]
    if existing and not force:
        raise ExistsError(existing[0], "choose another folder (--out), or pass force (--force) to replace it")
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    place = out_dir if out_dir.is_dir() else out_dir.parent  # a folder that exists may be on another file system
    with tempfile.TemporaryDirectory(prefix=f".{out_dir.name}.", dir=place) as folder:
        yield Path(folder)
        out_dir.mkdir(exist_ok=True)
        for path in sorted(Path(folder).iterdir()):
            (replace_folder if path.is_dir() else os.replace)(path, out_dir / path.name)


class Chunk(NamedTuple):
    """Some inputs and what every runtime computed of them."""

    names: list[str]
    lrs: dict[str, np.ndarray]
    """Runtime -> uint8 ``[N, lr, lr, 3]``; the reference first."""


@dataclass(frozen=True)
class ProofJob:
    """An encoder's files (format -> path), and the inputs on which its runtimes are compared.

    The first runtime is the one that the others are compared with: the int64 reference of the integer ``network``, or
    torch for a float encoder, which skips slow runtimes.
    """

    graph: EncoderGraph
    artefacts: Mapping[str, Path]
    count: int
    network: IntegerNetwork | None = None
    pictures: Sequence[Path] = ()

    def runtimes(self) -> list[Runtime]:
        """All runtimes, the one to compare with first."""
        runtimes, torch = load_runtimes(self.graph, self.artefacts), torch_runtimes(self.graph)
        if self.network is not None:
            return [Runtime("int64 reference", partial(run_reference, self.network)), *runtimes, *torch]
        return [*torch, *(runtime for runtime in runtimes if not runtime.slow)]

    def inputs(self, span: slice = slice(None)) -> Iterator[CheckInput]:
        return make_inputs(self.graph.hr, self.count, network=self.network, pictures=self.pictures, span=span)

    def run(self) -> Iterator[Chunk]:
        """All inputs in their order on all runtimes, in as many processes as are worth their start.

        Each process takes about 1 GB.
        """
        processes = min(os.cpu_count() or 1, 4, self.count // (LARGE_BATCH // 2))
        if processes < 2:
            yield from run_all(self.runtimes(), self.inputs())
            return
        size = min(LARGE_BATCH, -(-self.count // processes))
        # Threads of NumPy and torch in these processes wait without busy loops, which would take most of the time.
        os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE")
        spans = [slice(start, start + size) for start in range(0, self.count, size)]
        with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _begin, (self,)) as pool:
            try:
                for chunks in pool.map(_run_span, spans):
                    yield from chunks
            except BrokenProcessPool as error:
                raise ExportError(
                    f"a process of the comparison ended early ({error}); it may have needed more memory than there was"
                ) from error
            finally:
                pool.shutdown(cancel_futures=True)


def _begin(job: ProofJob) -> None:
    """Load the runtimes of a process, which ends silently at Ctrl-C."""
    global _job, _runtimes
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _job, _runtimes = job, job.runtimes()


_job: ProofJob
_runtimes: list[Runtime]


def _run_span(span: slice) -> list[Chunk]:
    return list(run_all(_runtimes, _job.inputs(span)))


def compare(chunks: Iterable[Chunk]) -> list[dict[str, Any]]:
    """A row of the report for each runtime but the first, with which they are compared."""
    rows: dict[str, dict[str, Any]] = {}
    counts = ("inputs", "bytes_compared", "differing_bytes", "largest_step")
    for chunk in chunks:
        (_, expected), *others = chunk.lrs.items()
        for name, lr in others:
            row = rows.setdefault(name, {"name": name, **dict.fromkeys(counts, 0)})
            steps = np.abs(lr.astype(np.int16) - expected)
            row["inputs"] += len(chunk.names)
            row["bytes_compared"] += expected.size
            row["differing_bytes"] += int(np.count_nonzero(steps))
            row["largest_step"] = max(row["largest_step"], int(steps.max()))
            if steps.any():
                row.setdefault("first_difference", chunk.names[int(steps.any((1, 2, 3)).argmax())])
    return list(rows.values())


def run_all(runtimes: Sequence[Runtime], inputs: Iterable[CheckInput]) -> Iterator[Chunk]:
    """Run every runtime on every input."""
    iterator, size = iter(inputs), max(runtime.batch for runtime in runtimes)
    while batch := list(itertools.islice(iterator, size)):
        rgb = np.stack([item.picture for item in batch])
        yield Chunk([item.name for item in batch], {runtime.name: _run(runtime, rgb) for runtime in runtimes})


def _with_progress(job: ProofJob, text: str, say: Callable[[str], None]) -> Iterator[Chunk]:
    """The chunks of a job; every `LINE_EVERY` seconds a line says how many inputs are done."""
    say(text)
    done, written = 0, time.monotonic()
    for chunk in job.run():
        yield chunk
        done += len(chunk.names)
        if time.monotonic() - written >= LINE_EVERY:
            say(f"{text}: {done} of {job.count} inputs")
            written = time.monotonic()


def _run(runtime: Runtime, rgb: np.ndarray) -> np.ndarray:
    if runtime.fixed_batch and len(rgb) < runtime.batch:  # repeat pictures, drop their LRs
        return runtime.encode(rgb[np.arange(runtime.batch) % len(rgb)])[: len(rgb)]
    starts = range(0, len(rgb), runtime.batch)
    return np.concatenate([runtime.encode(rgb[start : start + runtime.batch]) for start in starts])
