"""`run_batch`: a whole run of ``edgegrain batch`` on Ray Data, with its lock and its file of failures."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from codec_contract.errors import ExistsError, ServiceError, needs_extra
from edgegrain.service.batch.cluster import ray_cluster
from edgegrain.service.batch.folder_store import FolderStore
from edgegrain.service.batch.open_store import folder_at, open_store
from edgegrain.service.batch.plan import BatchPlan, Tally

FAILURES = "failures.jsonl"
SHOWN = 10
"""Most failures that are returned; the file has all of them."""


def run_batch(
    plan: BatchPlan, failures: Path, *, workers: int | None = None, gpus: float = 0.0, ray_address: str | None = None,
    report: Callable[[Tally], None] = lambda total: None
) -> Tally:
    """Run a plan on a Ray cluster; a folder as target is locked, so that another run cannot write into it.

    Args:
        plan: parameters of the run; without ``ray_address`` its ``threads`` are replaced by the cores per worker.
        failures: file for failures, one JSON object per line; removed if nothing failed.
        workers: number of worker processes; None for one per core.
        gpus: GPUs reserved per worker.
        ray_address: a running Ray cluster; None to start Ray on this machine.
        report: called with the counts so far, after every part.

    Returns:
        The counts, with the first `SHOWN` failures.

    Raises:
        ExistsError: the file for failures exists and was not written by an earlier run.
        ServiceError: Ray is missing or does not start, another run writes into the target, or the names could not be
            listed.
        OSError: the file for failures cannot be written.
    """
    out = open_store(plan.target)
    cores = os.cpu_count() or 1
    total = Tally()
    with ExitStack() as stack:
        if isinstance(out, FolderStore):
            stack.enter_context(out.held())
        note = stack.enter_context(_failures_file(failures, plan.force))
        stack.enter_context(ray_cluster(ray_address, cpus=workers or cores))
        with needs_extra("ray", "working on Ray needs", ServiceError):
            from edgegrain.service.batch import ray_run
        count = workers or ray_run.cores()
        if ray_address is None:
            plan = dataclasses.replace(plan, threads=max(1, cores // count))
        for part in ray_run.tallies(plan, count, gpus=gpus):
            for failure in part.failures:
                note(failure)
            total.add(part, keep=SHOWN)
            report(total)
    return total


def failures_path(target: str) -> Path:
    """The default file for failures: in the target, or in the current folder if the target is a URI."""
    return (folder_at(target) or Path()) / FAILURES


@contextmanager
def _failures_file(path: Path, force: bool) -> Iterator[Callable[[dict[str, str]], None]]:
    """Open a function that writes failures as lines at once; without failures the file is removed at the end.

    A device such as ``/dev/null`` is written to and stays.

    Raises:
        ExistsError: the file exists and was not written by an earlier run.
    """
    device = path.exists() and not path.is_file()
    if not force and path.is_file() and not _is_failures_file(path):
        raise ExistsError(path, "it is not a list of failures; choose another file with --failures, or pass --force to "
                                "replace it")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:

        def note(failure: dict[str, str]) -> None:
            file.write(json.dumps(failure) + "\n")
            file.flush()

        try:
            yield note
        finally:
            if not device and file.tell() == 0:
                path.unlink(missing_ok=True)


def _is_failures_file(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8") as file:
            line = file.readline(1 << 20)
        return not line or json.loads(line).keys() == {"name", "error"}
    except (ValueError, AttributeError):
        return False
