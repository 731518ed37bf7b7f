"""Comparison of exports with the int64 reference, byte by byte, and of float encoders with each other."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from edge_encoder.integer_network import IntegerNetwork, run_reference
from export.proof.running import Chunk
from export.proof.runtimes import Runtime

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
        """Median of all pairs, in flips per million."""
        return statistics.median(self.flips.values())

    @property
    def worst(self) -> tuple[str, str, float]:
        """The two runtimes that differ most, and their flips per million."""
        (first, second), flips = max(self.flips.items(), key=lambda item: item[1])
        return first, second, flips


def reference_runtime(network: IntegerNetwork) -> Runtime:
    """`run_reference` of a network as a runtime, which `compare` takes as the truth."""
    return Runtime(REFERENCE, partial(run_reference, network))


def compare(chunks: Iterable[Chunk], progress: Progress | None = None) -> list[RuntimeResult]:
    """Compare all runtimes with the one named `REFERENCE`.

    Args:
        chunks: results of all runtimes, `reference_runtime` among them.
        progress: called after every chunk.

    Returns:
        One result for each other runtime; differences are counted, not raised.
    """
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


def flip_report(chunks: Iterable[Chunk], progress: Progress | None = None) -> FlipReport:
    """Count the LR bytes that differ between every two runtimes; takes at least two runtimes and one input."""
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
