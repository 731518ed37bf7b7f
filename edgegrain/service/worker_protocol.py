"""Start a worker process and read its answers; the service and ``edgegrain batch`` share these functions.

`worker` describes the messages, `pipe_messages` their form. Worker processes do not import this file: it loads the
settings' library.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from codec_contract import errors
from codec_contract.errors import EdgegrainError, ServiceError
from edgegrain.service import pipe_messages
from edgegrain.service.job import Done, WorkerLost
from edgegrain.service.settings import ENVIRONMENT_PREFIX
from sdk.open_bundle import RunningDecoder

COMMAND = (sys.executable, "-P", "-m", "edgegrain.service.worker")
"""Program and arguments of a worker process, which imports nothing from the current directory."""
STAGES = ("unpack", "read", "decode", "enlarge", "encode", "write")
"""Stages that a worker reports seconds of. They become labels and headers, so all others are ignored."""

MAX_TEXT = 2000
"""Longest text in the description of a decoder."""

WarmUp = tuple[str, str, int, float, int]
"""Verb, bundle, number of items, seconds, factor of the enlarger (1 for none)."""


def read_warm_up(fields: dict[str, Any]) -> list[WarmUp]:
    """Read the batches of a worker's warm-up from its message that it is ready.

    Raises:
        WorkerLost: the message is invalid.
    """
    try:
        return [(str(verb), str(bundle), int(count), float(seconds), int(enlargement))
                for verb, bundle, count, seconds, enlargement in fields.get("warm_up", [])]
    except (TypeError, ValueError, OverflowError) as error:
        raise WorkerLost(f"its message that it is ready is invalid: {error!r}") from error


def read_decoders(fields: dict[str, Any]) -> dict[str, RunningDecoder]:
    """Read bundle -> decoder from a worker's message that it is ready.

    Raises:
        WorkerLost: the message is invalid.
    """
    try:
        decoders = {str(bundle): RunningDecoder(**described)
                    for bundle, described in fields.get("decoders", {}).items()}
    except (TypeError, AttributeError) as error:
        raise WorkerLost(f"its message that it is ready is invalid: {error!r}") from error
    for decoder in decoders.values():
        texts = (decoder.file, decoder.precision, decoder.ops, decoder.device, decoder.provider, decoder.reason)
        if not all(isinstance(text, str) and len(text) <= MAX_TEXT for text in texts) \
                or not isinstance(decoder.graphs, bool):
            raise WorkerLost("its message that it is ready describes no decoder")
    return decoders


def read_answer(message: pipe_messages.Message, count: int) -> tuple[list[Done | EdgegrainError], dict[str, float]]:
    """Read a worker's answer: the results of ``count`` jobs, and the seconds of their stages.

    Raises:
        WorkerLost: the message is invalid, as that of a compromised worker may be.
    """
    fields, blobs = message
    try:
        outcomes = fields["outcomes"]
        if not len(outcomes) == len(blobs) == count:
            raise WorkerLost(f"it answered {len(outcomes)} of {count} items")
        seconds = {stage: float(fields["seconds"][stage]) for stage in STAGES if stage in fields["seconds"]}
        return [Done(blob, seconds) if outcome is None else error_of(outcome)
                for outcome, blob in zip(outcomes, blobs, strict=True)], seconds
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise WorkerLost(f"its answer is invalid: {error!r}") from error


def error_of(description: dict[str, str]) -> EdgegrainError:
    """The error in a worker's answer; a `ServiceError` for unknown classes."""
    kind = getattr(errors, description["error"], None)
    if isinstance(kind, type) and issubclass(kind, EdgegrainError):
        return kind(str(description["message"]))
    return ServiceError(str(description["message"]))


def worker_environment() -> dict[str, str]:
    """A worker's environment: without the service's settings, as a process that reads untrusted data needs no tokens,
    and with this package on its path, in a checkout too."""
    environment = {name: value for name, value in os.environ.items()
                   if not name.upper().startswith(ENVIRONMENT_PREFIX)}  # settings may be in lower case
    root = str(Path(__file__).resolve().parents[2])
    return {**environment, "PYTHONPATH": os.pathsep.join([root, *filter(None, [environment.get("PYTHONPATH")])])}
