"""The worker process, ``python -m edgegrain.service.worker``: an engine behind stdin and stdout.

A message is a line with a JSON object, and the byte strings whose lengths the object lists as ``lengths``. Unlike
`multiprocessing`'s pipes this needs no pickle, so a compromised worker cannot run code in the service. The first
message configures the engine; it is answered after the warm-up. Then follow batches:

    {"folders": [...], ...}                           {"warm_up": [...], "decoders": {...}} or {"failed": MESSAGE}
    {"verb": "restore", "bundle": ID, "options": [...]} + one byte string per item
        {"outcomes": [null | {"error": CLASS, "message": TEXT}, ...], "seconds": {STAGE: S}} + one byte string per item

After an error of CUDA such as an illegal address, every later call of the process fails. So on device ``"cuda"`` an
answer with a failure of the device also has ``"ends": true``, and the process ends with status 1.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import IO, Any

from codec_contract.errors import DeviceError, DeviceMemoryError, EdgegrainError
from edgegrain.service.engine import CompressOptions, Engine, Outcome, RestoreOptions, Stages
from edgegrain.service.logs import configure_logs

Message = tuple[dict[str, Any], list[bytes]]


def pack(fields: dict[str, Any], blobs: Sequence[bytes] = ()) -> list[bytes]:
    """The parts of a message, to be written in order."""
    return [json.dumps({**fields, "lengths": [len(blob) for blob in blobs]}).encode() + b"\n", *blobs]


def read(stream: IO[bytes]) -> Message | None:
    """The next message; None at the end of the stream."""
    if not (line := stream.readline()):
        return None
    fields = json.loads(line)
    return fields, [stream.read(length) for length in fields.pop("lengths")]


def main() -> int:
    """Serve batches until stdin ends; returns the exit status."""
    for ignored in (signal.SIGINT, signal.SIGTERM):  # terminals and systemd send them to the whole process group; the
        signal.signal(ignored, signal.SIG_IGN)  # service drains first and then ends its workers
    requests, answers = _private_streams()
    if (first := read(requests)) is None:
        return 0
    fields, _ = first
    configure_logs(fields.pop("log_level"))
    try:
        engine = Engine(**fields)
        warm_up = engine.warm_up()
    except EdgegrainError as error:
        _send(answers, {"failed": " ".join(str(error).split())})
        return 1
    _send(answers, {"warm_up": warm_up, "decoders": {name: asdict(each) for name, each in engine.decoders.items()}})
    while (message := read(requests)) is not None:
        stages = Stages()
        outcomes = run_batch(engine, *message, stages)
        ends = fields.get("device") == "cuda" and any(
            isinstance(outcome, DeviceError) and not isinstance(outcome, DeviceMemoryError) for outcome in outcomes)
        _send(answers, {"outcomes": list(map(_describe, outcomes)), "seconds": stages.seconds, "ends": ends},
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


def _describe(outcome: Outcome) -> dict[str, str] | None:
    return None if isinstance(outcome, bytes) else {"error": type(outcome).__name__, "message": str(outcome)}


def _private_streams() -> tuple[IO[bytes], IO[bytes]]:
    """The pipes for messages; output that libraries print goes to stderr from now on."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, answers


def _send(stream: IO[bytes], fields: dict[str, Any], blobs: Sequence[bytes] = ()) -> None:
    for piece in pack(fields, blobs):
        stream.write(piece)
    stream.flush()


if __name__ == "__main__":
    sys.exit(main())
