"""Run a `BatchPlan` on Ray Data: one task lists names, a pool of actors processes them and returns counts.

Only names and counts pass through Ray. The batch of an actor that dies is repeated by another one, which is harmless
because results are written atomically.
"""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Iterator
from typing import Any

import pyarrow
import ray
from ray.data import ActorPoolStrategy, DataContext, Datasource, ReadTask
from ray.data.block import BlockMetadata

from codec_contract.errors import ServiceError
from edgegrain.service.batch.batch_worker import BatchWorker
from edgegrain.service.batch.interruption import until_interrupted
from edgegrain.service.batch.open_store import open_store
from edgegrain.service.batch.plan import BatchPlan, Tally, pending_batches

BLOCK_BYTES = 4096
"""Size at which Ray Data passes rows on; small, so that work starts and counts arrive early."""


def tallies(plan: BatchPlan, workers: int, *, gpus: float = 0.0) -> Iterator[Tally]:
    """Run a plan, yielding the counts of each part; Ray must be running (`ray_cluster`).

    Args:
        plan: parameters of the run.
        workers: number of actors, for each of which a core is reserved.
        gpus: GPUs reserved per actor.

    Raises:
        ServiceError: the names could not be listed, or no worker could start.
    """
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.target_max_block_size = BLOCK_BYTES
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"ray\.data\.")  # of fewer batches than workers
    names = ray.data.read_datasource(PendingNames(plan), override_num_blocks=1, num_cpus=0)
    counts = names.map_batches(
        BatchActor, fn_constructor_args=(plan,), batch_size=1, batch_format="pyarrow", num_cpus=1, num_gpus=gpus,
        compute=ActorPoolStrategy(size=workers))
    total = Tally()
    try:
        for row in until_interrupted(counts.iter_rows()):
            part = Tally(**{**row, "failures": json.loads(row["failures"])})
            total.add(part, keep=0)
            yield part
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None) or error
        raise ServiceError(f"the run was interrupted; start it again to continue: {_last_line(cause)}") from error
    # If Ray has to restart the listing, it drops as many rows as it has delivered. By then other names are pending, as
    # some have results, so names that were never processed may be among those rows.
    if total.done + total.skipped + total.failed != total.listed:
        raise ServiceError(
            "the machine that listed the names was lost, and names are missing; start the run again to continue")


def cores() -> int:
    """Number of cores of the Ray cluster, at least 1."""
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


class PendingNames(Datasource):
    """The pending names of a plan, one batch per row, listed during the run."""

    def __init__(self, plan: BatchPlan) -> None:
        super().__init__()
        self._plan = plan

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: DataContext | None = None
    ) -> list[ReadTask]:
        plan = self._plan
        return [ReadTask(lambda: _blocks(plan), BlockMetadata(
            num_rows=None, size_bytes=None, exec_stats=None, input_files=None))]


class BatchActor:
    """Actor that processes rows of `PendingNames`."""

    def __init__(self, plan: BatchPlan) -> None:
        self._worker = BatchWorker(plan)

    def __call__(self, rows: pyarrow.Table) -> pyarrow.Table:
        found = []
        for row in rows.to_pylist():
            tally = Tally(**json.loads(row["counts"]))
            tally.add(self._worker.work([os.fsdecode(name) for name in row["names"]]))
            found.append({**vars(tally), "failures": json.dumps(tally.failures)})
        return pyarrow.Table.from_pylist(found)


def _blocks(plan: BatchPlan) -> Iterator[pyarrow.Table]:
    schema: Any = pyarrow.schema([("names", pyarrow.list_(pyarrow.binary())), ("counts", pyarrow.string())])
    for part in pending_batches(plan, open_store(plan.source), open_store(plan.target)):
        # As bytes: names of files on disk need not be text.
        row = {"names": [os.fsencode(name) for name in part.names], "counts": json.dumps(vars(part.counts))}
        yield pyarrow.Table.from_pylist([row], schema=schema)


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
