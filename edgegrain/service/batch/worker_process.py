"""The service's worker process, driven by one worker of ``edgegrain batch``: a picture that kills it is found out."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from codec_contract.errors import BundleError, ServiceError
from edgegrain.service import pipe_messages
from edgegrain.service.batcher import Done, WorkerLost
from edgegrain.service.engine_options import Outcome
from edgegrain.service.supervisor import COMMAND, read_answer, worker_environment

BATCH_SECONDS = 600.0
"""A batch that takes longer costs the process its life."""


class EngineProcess:
    """A process that runs `edgegrain.service.worker`, started anew when it dies."""

    def __init__(self, configuration: Mapping[str, Any], command: Sequence[str] = COMMAND) -> None:
        """Start it and wait until it is warm.

        Args:
            configuration: of `edgegrain.service.engine.Engine`, and the log level.
            command: the program; tests put others in its place.

        Raises:
            BundleError: it refuses to work; the message says why.
        """
        self._configuration = dict(configuration)
        self._command = list(command)
        self._process = self._start()

    def run(self, verb: str, bundle: str, options: Mapping[str, Any], blobs: Sequence[bytes]) -> list[Outcome]:
        """What became of each of the blobs, in order.

        If the process dies or speaks nonsense over several, each is tried alone: the one that makes it do so fails,
        the others do not.
        """
        if not blobs:
            return []
        outcomes = self._attempt(verb, bundle, options, blobs)
        if outcomes is not None:
            return outcomes
        if len(blobs) > 1:
            return [outcome for blob in blobs for outcome in self.run(verb, bundle, options, [blob])]
        return [ServiceError("the process that worked on it died, hung or gave no answer; the file may be made to do "
                             "that")]

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def _attempt(
        self, verb: str, bundle: str, options: Mapping[str, Any], blobs: Sequence[bytes]
    ) -> list[Outcome] | None:
        """The outcomes; None if the process gave none, and then there is a new one."""
        fields = {"verb": verb, "bundle": bundle, "options": [dict(options)] * len(blobs)}
        message = self._exchange(self._process, fields, blobs)
        try:
            if message is None:
                raise WorkerLost("it died or hung")
            answers, _ = read_answer(message, len(blobs))
        except WorkerLost:
            self.close()
            self._process = self._start()
            return None
        return [answer.data if isinstance(answer, Done) else answer for answer in answers]

    def _start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=worker_environment())
        answer = self._exchange(process, self._configuration, [])
        if answer is None or "ready" not in answer[0]:
            process.kill()
            process.communicate()
            said = answer[0].get("failed") if answer else None
            raise BundleError(str(said or "the process that runs the networks did not start; its log says why"))
        return process

    @staticmethod
    def _exchange(
        process: subprocess.Popen[bytes], fields: dict[str, Any], blobs: Sequence[bytes]
    ) -> pipe_messages.Message | None:
        """Send a message and read its answer; None if the process died or took too long."""
        if process.stdin is None or process.stdout is None:
            raise ValueError("the process has no pipes")
        patience = threading.Timer(BATCH_SECONDS, process.kill)
        patience.daemon = True
        patience.start()
        try:
            for piece in pipe_messages.pack(fields, blobs):
                process.stdin.write(piece)
            process.stdin.flush()
            return pipe_messages.read(process.stdout)
        except (OSError, ServiceError):
            return None
        finally:
            patience.cancel()
