"""`EngineProcess`: the service's worker process, as used by one worker of ``edgegrain batch``."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from codec_contract.errors import BundleError, ServiceError
from edgegrain.service.batcher import Done, Verb, WorkerLost
from edgegrain.service.engine import Outcome
from edgegrain.service.worker import Message, pack, read
from edgegrain.service.workers import COMMAND, environment, read_answer

BATCH_SECONDS, ITEM_SECONDS = 600.0, 30.0
"""Longest time for a batch of one item, and for each further item; a process that exceeds it is killed."""


class EngineProcess:
    """A process that runs `edgegrain.service.worker`, restarted when it dies or its device fails."""

    def __init__(self, configuration: Mapping[str, Any], command: Sequence[str] = COMMAND) -> None:
        """Start it and wait until it is ready.

        Args:
            configuration: arguments of `edgegrain.service.engine.Engine`, and the log level.
            command: the program and its arguments; tests substitute it.

        Raises:
            BundleError: it failed to start; the message has its reason.
        """
        self._configuration = dict(configuration)
        self._command = list(command)
        self._process = self._start()

    def run(self, verb: Verb, bundle: str, options: Mapping[str, Any], blobs: Sequence[bytes]) -> list[Outcome]:
        """Compute a batch; returns the outcome of each of ``blobs``, in order.

        If the process dies or sends an invalid answer, or its device fails, it is restarted and each item is tried
        alone, so that only the item that causes this fails.
        """
        if not blobs:
            return []
        outcomes = self._attempt(verb, bundle, options, blobs)
        if outcomes is not None:
            return outcomes
        if len(blobs) > 1:
            return [outcome for blob in blobs for outcome in self.run(verb, bundle, options, [blob])]
        return [ServiceError("the process that worked on it died, hung or gave no valid answer; the file may be "
                             "malicious")]

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def _attempt(
        self, verb: Verb, bundle: str, options: Mapping[str, Any], blobs: Sequence[bytes]
    ) -> list[Outcome] | None:
        """The outcomes; None if the process failed, or the device on several items. A process that ended is restarted.
        """
        fields = {"verb": verb, "bundle": bundle, "options": [dict(options)] * len(blobs)}
        message = self._exchange(self._process, fields, blobs)
        try:
            if message is None:
                raise WorkerLost("it died or hung")
            answers, _ = read_answer(message, len(blobs))
        except WorkerLost:
            self._restart()
            return None
        if message[0].get("ends"):
            self._restart()
            if len(blobs) > 1:
                return None
        return [answer.data if isinstance(answer, Done) else answer for answer in answers]

    def _restart(self) -> None:
        self.close()
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment())
        answer = self._exchange(process, self._configuration, [])
        if answer is None or "warm_up" not in answer[0]:
            process.kill()
            process.communicate()
            reason = answer[0].get("failed") if answer else None
            raise BundleError(str(reason or "the process that runs the networks did not start; see its log"))
        return process

    @staticmethod
    def _exchange(
        process: subprocess.Popen[bytes], fields: dict[str, Any], blobs: Sequence[bytes]
    ) -> Message | None:
        """Send a message and read its answer; None if the process died or took too long."""
        if process.stdin is None or process.stdout is None:
            raise ValueError("the process has no pipes")
        seconds = BATCH_SECONDS + ITEM_SECONDS * max(0, len(blobs) - 1)
        timer = threading.Timer(seconds, process.kill)
        timer.daemon = True
        timer.start()
        try:
            for piece in pack(fields, blobs):
                process.stdin.write(piece)
            process.stdin.flush()
            return read(process.stdout)
        except (OSError, ValueError):
            return None
        finally:
            timer.cancel()
