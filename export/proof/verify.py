"""Comparison of exports with the int64 reference, byte by byte, and of float encoders with each other."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from codec_contract.errors import ExportError
from edge_encoder.integer_network import IntegerNetwork, run_reference
from export.encoder.graph import EncoderGraph, exact_graph
from export.proof.proof_inputs import CheckInput
from export.proof.running import Chunk, run_all
from export.proof.runtimes import Runtime, load_runtimes

REFERENCE = "int64 reference"
"""The name of `run_reference` among the runtimes."""
Progress = Callable[[int], None]
"""Called with the number of inputs done since the last call."""


@dataclass
class RuntimeResult:
    """Result of one runtime on all inputs, compared with the int64 reference."""

    name: str
    inputs: int = 0
    bytes_compared: int = 0
    differing_bytes: int = 0
    first_difference: str | None = None
    """Name of the first input whose LR differs."""

    @property
    def exact(self) -> bool:
        """True if bytes were compared and all are equal."""
        return self.bytes_compared > 0 and self.differing_bytes == 0


@dataclass(frozen=True)
class FlipReport:
    """Differences between runtimes of one float encoder, in LR bytes per million."""

    runtimes: tuple[str, ...]
    inputs: int
    bytes_compared: int
    flips: Mapping[tuple[str, str], float] = field(repr=False)
    """For every pair of runtimes."""
    largest_step: int
    """Largest difference of one byte, in levels."""

    @property
    def median(self) -> float:
        return statistics.median(self.flips.values())

    @property
    def worst(self) -> tuple[str, str, float]:
        """The two runtimes that differ most, and their flips per million."""
        (first, second), flips = max(self.flips.items(), key=lambda item: item[1])
        return first, second, flips


def verify(network: IntegerNetwork, artefacts: Mapping[str, Path], inputs: Iterable[CheckInput], *,
           progress: Progress | None = None, runtimes: Sequence[Runtime] | None = None) -> list[RuntimeResult]:
    """Compare every runtime with `run_reference`.

    Args:
        network: the integers that were exported.
        artefacts: format (``tflite``, ``coreml``, ``onnx``) -> file.
        inputs: consumed once, a batch at a time.
        progress: called after every batch.
        runtimes: instead of all those `load_runtimes` finds.

    Returns:
        One row per runtime. Differences are counted, not raised: `require_exact` raises.
    """
    truth = Runtime(REFERENCE, partial(run_reference, network))
    runtimes = runtimes or load_runtimes(exact_graph(network), artefacts)
    return compare(run_all([truth, *runtimes], inputs), progress)


def compare(chunks: Iterable[Chunk], progress: Progress | None = None) -> list[RuntimeResult]:
    """Compare all runtimes with the one named `REFERENCE`; one row for each."""
    results: dict[str, RuntimeResult] = {}
    for chunk in chunks:
        expected = chunk.lrs[REFERENCE]
        for name, lr in chunk.lrs.items():
            if name == REFERENCE:
                continue
            result, wrong = results.setdefault(name, RuntimeResult(name)), lr != expected
            result.inputs += len(chunk.names)
            result.bytes_compared += expected.size
            result.differing_bytes += int(wrong.sum())
            if result.first_difference is None and wrong.any():
                result.first_difference = chunk.names[int(wrong.any((1, 2, 3)).argmax())]
        if progress:
            progress(len(chunk.names))
    return list(results.values())


def require_exact(results: Sequence[RuntimeResult]) -> None:
    """Raise `ExportError` naming every runtime that gave a wrong byte, or on which none was compared."""
    wrong = [result for result in results if not result.exact]
    if wrong or not results:
        lines = [f"{result.name}: {result.differing_bytes} of {result.bytes_compared} LR bytes differ"
                 + (f", first on {result.first_difference}" if result.first_difference else "") for result in wrong]
        raise ExportError("the exported encoder does not compute the integer network's bytes:\n  "
                          + "\n  ".join(lines or ["nothing was compared"]))


def count_flips(graph: EncoderGraph, artefacts: Mapping[str, Path], inputs: Iterable[CheckInput], *,
                progress: Progress | None = None) -> FlipReport:
    """Run a float encoder on all but slow runtimes; count LR bytes that differ between every two."""
    runtimes = [runtime for runtime in load_runtimes(graph, artefacts) if not runtime.slow]
    return flip_report(run_all(runtimes, inputs), progress)


def flip_report(chunks: Iterable[Chunk], progress: Progress | None = None) -> FlipReport:
    """Count LR bytes that differ between every two runtimes."""
    collected: dict[str, list[np.ndarray]] = {}
    count = 0
    for chunk in chunks:
        for name, lr in chunk.lrs.items():
            collected.setdefault(name, []).append(lr)
        count += len(chunk.names)
        if progress:
            progress(len(chunk.names))
    outputs = {name: np.concatenate(parts).astype(np.int16) for name, parts in collected.items()}
    steps = {pair: np.abs(outputs[pair[0]] - outputs[pair[1]]) for pair in itertools.combinations(outputs, 2)}
    size = next(iter(outputs.values())).size
    return FlipReport(
        runtimes=tuple(outputs), inputs=count, bytes_compared=size,
        flips={pair: 1e6 * np.count_nonzero(step) / size for pair, step in steps.items()},
        largest_step=max(int(step.max()) for step in steps.values()))


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
