"""`WorkerHandle`: one worker process and the pipes to it, as the supervisor sees them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from codec_contract.errors import EdgegrainError, ServiceError
from edgegrain.service import pipe_messages
from edgegrain.service.job import Done, Job, WorkerLost
from edgegrain.service.worker_protocol import (
    COMMAND,
    WarmUp,
    read_answer,
    read_decoders,
    read_warm_up,
    worker_environment,
)
from sdk.open_bundle import RunningDecoder

BUFFER = 1 << 20
STOP_SECONDS = 5.0


@dataclass(frozen=True)
class WorkerPlan:
    """Start parameters of a worker.

    Attributes:
        configuration: arguments of the engine, sent in the first message.
        start_timeout: seconds until it must be ready.
        batch_timeout: most seconds for a batch.
        command: the program and its arguments.
    """

    configuration: dict[str, Any]
    start_timeout: float
    batch_timeout: float
    command: Sequence[str] = COMMAND


class WorkerHandle:
    """One worker process and the pipes to it.

    Attributes:
        process: the process.
        warm_up: batches of its warm-up and their seconds.
        decoders: bundle -> the decoder that it runs.
        ends: true if it ends after the last answer that was received, because its device failed.
    """

    def __init__(self, process: asyncio.subprocess.Process, plan: WorkerPlan) -> None:
        self.process = process
        self.warm_up: list[WarmUp] = []
        self.decoders: dict[str, RunningDecoder] = {}
        self.ends = False
        self._plan = plan

    @classmethod
    async def start(cls, plan: WorkerPlan) -> WorkerHandle:
        """Start a process and wait until it is ready.

        Raises:
            WorkerLost: it died, or was not ready in time.
            ServiceError: it failed to start; the message has its reason.
        """
        process = await asyncio.create_subprocess_exec(
            *plan.command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=BUFFER,
            env=worker_environment())
        worker = cls(process, plan)
        try:
            worker._write(plan.configuration, [])
            fields, _ = await worker._read(plan.start_timeout)
            if "ready" not in fields:
                raise ServiceError(str(fields.get("failed", "the worker did not report that it is ready")))
            worker.warm_up = read_warm_up(fields)
            worker.decoders = read_decoders(fields)
        except BaseException:
            await worker.stop(0)
            raise
        return worker

    def send(self, jobs: Sequence[Job]) -> None:
        """Send a batch without waiting; the worker starts it after the current one.

        Raises:
            WorkerLost: the process died.
        """
        key = jobs[0].key
        self._write({"verb": key.verb, "bundle": key.bundle, "options": [job.options for job in jobs]},
                    [job.data for job in jobs])

    async def receive(self, count: int) -> tuple[list[Done | EdgegrainError], dict[str, float]]:
        """Wait for the results of the oldest unanswered batch, of ``count`` jobs, and the seconds of its stages.

        Raises:
            WorkerLost: the process died, took too long, or sent an invalid answer.
        """
        message = await self._read(self._plan.batch_timeout)
        self.ends = bool(message[0].get("ends"))
        return read_answer(message, count)

    async def stop(self, timeout: float = STOP_SECONDS) -> None:
        """Close the process's input, and kill it if it has not ended after ``timeout`` seconds."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            await asyncio.wait_for(self.process.wait(), timeout)
        except TimeoutError:
            if self.process.returncode is None:
                self.process.kill()
            await self.process.wait()
        await self.process.communicate()  # drains and closes the pipes

    def _write(self, fields: dict[str, Any], blobs: list[bytes]) -> None:
        assert self.process.stdin is not None  # it is a pipe: see start
        try:
            self.process.stdin.writelines(pipe_messages.pack(fields, blobs))
        except (OSError, RuntimeError) as error:  # uvloop raises the latter for closed pipes
            raise WorkerLost(f"it died or broke its pipe ({error})") from error

    async def _read(self, timeout: float) -> pipe_messages.Message:
        assert self.process.stdout is not None
        try:
            async with asyncio.timeout(timeout):
                return await pipe_messages.read_async(self.process.stdout)
        except TimeoutError:
            raise WorkerLost(f"it did not answer within {timeout:g} s") from None
        except (OSError, asyncio.IncompleteReadError, ServiceError) as error:
            raise WorkerLost(f"it died or broke its pipe ({error or type(error).__name__})") from error
