"""All runtimes on all inputs, a batch at a time."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from export.proof.proof_inputs import CheckInput
from export.proof.runtimes import Runtime


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
