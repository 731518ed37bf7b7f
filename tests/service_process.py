"""The service as a process, with access to its log, for tests and load generators."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.service_harness import SOON, get, reachable, until

ROOT = Path(__file__).resolve().parents[1]
SERVE = (sys.executable, "-m", "edgegrain", "serve", "--port", "0")
STUB = (
    "import sys\nfrom edgegrain.service import app, settings, workers\n"
    "workers.COMMAND = sys.argv[1:]\napp.serve(settings.Settings(port=0))"
)


def serve_with(worker_command: Sequence[str]) -> list[str]:
    """The command of a service with another worker program, see `tests.service_harness.stub_worker`."""
    return [sys.executable, "-c", STUB, *worker_command]


class Process:
    """A running service and its log."""

    def __init__(self, command: Sequence[str], prepare: Callable[[], None] | None = None, **settings: object) -> None:
        variables = {f"EDGEGRAIN_SERVE_{name.upper()}": str(value) for name, value in settings.items()}
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "EDGEGRAIN_SERVE_THREADS": "1", **variables}
        self.popen = subprocess.Popen(
            command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True, preexec_fn=prepare
        )
        self.lines: list[str] = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.popen.stderr is not None
        for line in self.popen.stderr:
            self.lines.append(line)

    def events(self, name: str) -> list[dict[str, Any]]:
        return [event for event in map(json.loads, list(self.lines)) if event["event"] == name]

    @property
    def url(self) -> str:
        until(lambda: self.events("listening") or self.popen.poll() is not None)
        url = str(self.events("listening")[0]["url"])
        until(lambda: reachable(int(url.rpartition(":")[2])) or self.popen.poll() is not None)
        return url

    @property
    def workers(self) -> list[int]:
        """Process ids of all workers that ever were ready."""
        return [event["worker_pid"] for event in self.events("worker ready")]

    def metric(self, name: str) -> float:
        text = get(f"{self.url}/metrics").text
        return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE))

    def stop(self) -> int:
        self.popen.send_signal(signal.SIGTERM)
        status = self.popen.wait(SOON)
        self.reader.join(SOON)
        return status


@contextmanager
def running(command: Sequence[str], prepare: Callable[[], None] | None = None, **settings: object) -> Iterator[Process]:
    """Start a service, `SERVE` or `serve_with`, and wait until it is ready; killed when the block ends."""
    process = Process(command, prepare, **settings)
    try:
        ready = f"{process.url}/health/ready"
        until(lambda: get(ready).status_code == 200 and process.workers)
        yield process
    finally:
        process.popen.kill()
        process.popen.wait()
