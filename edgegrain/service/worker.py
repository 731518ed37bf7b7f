"""The worker process: ``python -m edgegrain.service.worker``, started and watched by `supervisor`.

Reads messages from stdin and writes messages to stdout (`pipe_messages`). The first message configures the engine; it
is answered with ``{"ready": true, "warm_up": [[VERB, ID, ITEMS, SECONDS, ENLARGEMENT], ...], "decoders": {ID:
{...}}}`` after the warm-up, or with ``{"failed": MESSAGE}``. Then follow batches:

    {"verb": "restore", "bundle": ID, "options": [...]} + one byte string per item
    {"outcomes": [null | {"error": CLASS, "message": TEXT}, ...], "seconds": {STAGE: S}} + one byte string per item

After an error of CUDA such as an illegal address, every later call of the process fails. So on device ``"cuda"`` an
answer with a failure of the device also has ``"ends": true``, and the process ends with status 1.
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import asdict
from typing import IO, Any

from codec_contract.errors import DeviceError, DeviceMemoryError, EdgegrainError
from edgegrain.service import pipe_messages
from edgegrain.service.engine import Engine, Stages
from edgegrain.service.engine_options import CompressOptions, Outcome, RestoreOptions
from edgegrain.service.json_logs import configure_logs


def main() -> int:
    """Serve batches until stdin ends; returns the exit status."""
    for ignored in (signal.SIGINT, signal.SIGTERM):  # terminals and systemd send them to the whole process group; the
        signal.signal(ignored, signal.SIG_IGN)  # service drains first and then closes stdin
    requests, answers = _private_streams()
    first = pipe_messages.read(requests)
    if first is None:
        return 0
    fields, _ = first
    configure_logs(fields.pop("log_level"))
    try:
        engine = Engine(**fields)
        warm_up = engine.warm_up()
    except EdgegrainError as error:
        _send(answers, {"failed": " ".join(str(error).split())})
        return 1
    decoders = {bundle: asdict(decoder) for bundle, decoder in engine.decoders.items()}
    _send(answers, {"ready": True, "warm_up": warm_up, "decoders": decoders})
    while (message := pipe_messages.read(requests)) is not None:
        batch, blobs = message
        stages = Stages()
        outcomes = run_batch(engine, batch, blobs, stages)
        ends = fields.get("device") == "cuda" and any(map(_is_device_failure, outcomes))
        _send(answers, {"outcomes": [describe(outcome) for outcome in outcomes], "seconds": stages.seconds,
                        **({"ends": True} if ends else {})},
              [outcome if isinstance(outcome, bytes) else b"" for outcome in outcomes])
        if ends:
            return 1
    return 0


def run_batch(engine: Engine, batch: dict[str, Any], blobs: list[bytes], stages: Stages) -> list[Outcome]:
    """Compute a batch; returns one outcome per item."""
    if batch["verb"] == "restore":
        return engine.restore(batch["bundle"], blobs, [RestoreOptions(**item) for item in batch["options"]], stages)
    return engine.compress(batch["bundle"], blobs, [
        CompressOptions(**{**item, "background": tuple(item["background"])}) for item in batch["options"]], stages)


def describe(outcome: Outcome) -> dict[str, str] | None:
    """The JSON value for an outcome: None for a success, class and message of an error."""
    if isinstance(outcome, bytes):
        return None
    return {"error": type(outcome).__name__, "message": str(outcome)}


def _is_device_failure(outcome: Outcome) -> bool:
    """True for an error of the device that is no lack of memory."""
    return isinstance(outcome, DeviceError) and not isinstance(outcome, DeviceMemoryError)


def _private_streams() -> tuple[IO[bytes], IO[bytes]]:
    """The pipes for messages; output that libraries print goes to stderr from now on."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, answers


def _send(stream: IO[bytes], fields: dict[str, Any], blobs: list[bytes] | None = None) -> None:
    for piece in pipe_messages.pack(fields, blobs or []):
        stream.write(piece)
    stream.flush()


if __name__ == "__main__":
    sys.exit(main())
