"""The worker process with an engine that is replaced here: it ends after a failure of its GPU."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

import sdk
from codec_contract.errors import DeviceError, DeviceMemoryError
from edgegrain.service import pipe_messages
from edgegrain.service.batcher import Batcher
from edgegrain.service.capacity import Capacity
from edgegrain.service.engine_options import RestoreOptions
from edgegrain.service.job import BatchKey, Done, Job
from edgegrain.service.supervisor import Supervisor
from edgegrain.service.worker_handle import WorkerPlan
from edgegrain.service.worker_protocol import COMMAND, read_answer, worker_environment
from tests.service_harness import SOON

OPTIONS = asdict(RestoreOptions())
WORKER = (sys.executable, "-c", """
import subprocess
import sys
from codec_contract import errors
from edgegrain.service import worker

class Engine:
    decoders = {}

    def __init__(self, **fields):
        self.lost = False

    def warm_up(self):
        return []

    def restore(self, bundle, payloads, options, stages):
        names = [payload.decode() for payload in payloads]
        self.lost = self.lost or "DeviceError" in names
        if self.lost:
            return [errors.DeviceError("an illegal memory access")] * len(names)
        return [getattr(errors, name)("no") if hasattr(errors, name) else name.encode() for name in names]

worker.Engine = Engine
sys.exit(worker.main())
""")
"""A worker whose engine returns its input, or the error of that name; after a `DeviceError` it has no other answer."""


def configuration(device: str) -> dict[str, object]:
    return {"device": device, "log_level": "error"}


@pytest.mark.parametrize(("device", "name", "ends"), [
    ("cuda", b"DeviceError", True), ("cuda", b"DeviceMemoryError", False), ("cuda", b"PayloadError", False),
    ("cpu", b"DeviceError", False)])
def test_a_failure_of_the_gpu_ends_the_process(device: str, name: bytes, ends: bool) -> None:
    fields = {"verb": "restore", "bundle": "any", "options": [OPTIONS]}
    messages = [pipe_messages.pack(configuration(device), []), pipe_messages.pack(fields, [name])]
    done = subprocess.run(WORKER, input=b"".join(piece for message in messages for piece in message),
                          stdout=subprocess.PIPE, env=worker_environment(), timeout=SOON)
    stream = io.BytesIO(done.stdout)
    pipe_messages.read(stream)
    answer = pipe_messages.read(stream)
    assert answer is not None
    (outcome,), _ = read_answer(answer, 1)
    assert type(outcome).__name__ == name.decode()
    assert bool(answer[0].get("ends")) == ends and done.returncode == int(ends)


def test_the_service_replaces_it_and_no_other_batch_is_lost() -> None:
    async def test() -> None:
        lost: list[int] = []
        batcher = Batcher(limits={"restore": 100}, weights={"restore": 1}, sizes=(1,), wait=0.02, max_pixels=1000,
                          capacity=Capacity(1))
        supervisor = Supervisor(WorkerPlan(configuration("cuda"), SOON, SOON, WORKER), batcher, 1,
                                on_lost=lambda: lost.append(1))
        supervisor.start()
        loop = asyncio.get_running_loop()
        jobs = [Job(BatchKey("restore", "any"), name, OPTIONS, loop.time() + SOON, 1, loop.create_future())
                for name in (b"DeviceMemoryError", b"before", b"DeviceError", b"ahead", b"later")]
        try:
            while not supervisor.ready:
                await asyncio.sleep(0.01)
            batcher.submit(jobs)
            answers = [await asyncio.wait_for(job.answer, SOON) for job in jobs]
        finally:
            await supervisor.stop()
        assert [type(answer) for answer in answers] == [DeviceMemoryError, Done, DeviceError, Done, Done]
        assert lost == [1]

    asyncio.run(test())


def test_a_worker_imports_nothing_from_the_current_directory(tmp_path: Path) -> None:
    (tmp_path / "sdk").mkdir()
    (tmp_path / "sdk" / "__init__.py").touch()
    python = COMMAND[: COMMAND.index("-m")]
    found = subprocess.run([*python, "-c", "import sdk; print(sdk.__file__)"], cwd=tmp_path, env=worker_environment(),
                           capture_output=True, text=True, check=True).stdout
    assert found.strip() == sdk.__file__
