"""The number of spare worker processes that fit into the memory that is left."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from codec_contract.host_memory import available_memory, resident

GROWTH = 0.5
"""Memory that each picture of a batch adds to a worker, as a part of its memory when it is ready; measured: 0.4."""


class SpareDecision(NamedTuple):
    """Number of spare workers and the reason, for the log."""

    spares: int
    reason: str


def spares_that_fit(pids: Sequence[int], largest_batch: int, root: Path = Path("/")) -> SpareDecision:
    """One spare worker if there is memory for it and for the largest batch of every worker, otherwise none.

    Args:
        pids: process ids of the workers, which have just become ready.
        largest_batch: pictures in the largest batch.
        root: folder of ``proc`` and ``sys``; tests replace it.
    """
    worker, available = max((resident(pid, root) or 0 for pid in pids), default=0), available_memory(root)
    if not worker or available is None:
        return SpareDecision(0, "the memory of workers or of the system is not known here")
    needed = round(worker * (len(pids) * GROWTH * largest_batch + 1))
    figures = f"{available >> 20} MiB are available, {needed >> 20} MiB needed"
    return SpareDecision(int(available >= needed), figures)
