"""The worker process, ``python -m edgegrain.service.engine``: a codec of every bundle behind stdin and stdout.

A message is a line with a JSON object, and the byte strings whose lengths the object lists as ``lengths``. Unlike
`multiprocessing`'s pipes this needs no pickle, so a compromised worker cannot run code in the service. The first
message configures the engine; it is answered after the warm-up. Then follow batches:

    {"folders": [...], ...}                           {"warm_up": [...]} or {"failed": MESSAGE}
    {"verb": "restore", "bundle": ID, "options": [...]} + one byte string per item
        {"outcomes": [null | {"error": CLASS, "message": TEXT}, ...], "seconds": {STAGE: S}, "ends": false}
        + one byte string per item

After an error of CUDA such as an illegal address, every later call of the process fails. So on device ``"cuda"`` an
answer with a failure of the device has ``"ends": true``, and the process ends with status 1. As replaying a CUDA graph
may be what fails, the service configures the workers that it starts from then on with ``graphs=False``.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from PIL import Image

from codec_contract.errors import DeviceError, DeviceMemoryError, EdgegrainError, ServiceError
from codec_contract.fit import MAX_PHOTO_PIXELS, Fit, Size
from codec_contract.scene import MAX_FACES
from edge_encoder.preprocessing import FORMATS, WHITE, load_picture
from edgegrain.pictures import picture_file
from edgegrain.service.observability import configure_logs
from sdk.api import compress_faces_within, compress_within
from sdk.codec import Codec, Measure
from sdk.faces import DOMAIN, finder
from sdk.open_bundle import FormChoice
from sdk.scenes import compress_scene_within
from server_decoder.providers import Device

logger = logging.getLogger(__name__)

QUALITY = 90  # default quality of WebP and JPEG

Message = tuple[dict[str, Any], list[bytes]]
Outcome = bytes | EdgegrainError
"""Result of one item: the bytes of a picture file, payload, scene or JSON document, or the item's error."""
FacesChoice = Literal["largest", "all", "scene"]
"""Faces of a picture to compress: the largest to a payload, all to a payload each, or all to one scene."""


@dataclass(frozen=True)
class RestoreOptions:
    """Options for restoring one payload; ``mark`` is the same for all items of a batch."""

    size: Size = "original"
    format: str = "png"
    quality: int = QUALITY
    strength: float | None = None
    mark: bool = True


@dataclass(frozen=True)
class CompressOptions:
    """Options for compressing one picture; ``fallbacks`` are the bundles to try if the result exceeds ``max_bytes``."""

    fit: Fit | None = None
    background: tuple[int, int, int] = (255, 255, 255)
    align: bool = True
    require_face: bool = False
    faces: FacesChoice = "largest"
    quality: str | None = None
    max_bytes: int | None = None
    fallbacks: Sequence[str] = ()


class Engine:
    """A codec of every served bundle, opened on one device."""

    def __init__(
        self,
        folders: Sequence[str | Path],
        *,
        device: Device = "cpu",
        threads: int | None = None,
        batch_sizes: Sequence[int] = (1,),
        max_pixels: int = 1 << 24,
        max_photo_pixels: int = MAX_PHOTO_PIXELS,
        max_scene_faces: int = MAX_FACES,
        decoder_form: FormChoice = "auto",
        formats: Sequence[str] = FORMATS,
        graphs: bool = True,
    ) -> None:
        """Open the bundles; batches are padded to ``batch_sizes``, so that only shapes that were warmed up are run."""
        self._sizes, self._max_scene_faces = tuple(batch_sizes), max_scene_faces
        self._restoring: dict[str, Any] = {"max_pixels": max_pixels, "batch_sizes": self._sizes}
        self._reading: dict[str, Any] = {"max_pixels": max_photo_pixels, "formats": formats}
        self._codecs: dict[str, Codec] = {}
        for folder in folders:
            codec = Codec(folder, device, threads, form=decoder_form)
            codec._open.graphs = graphs
            codec._open.open()
            self._codecs[codec.bundle.id] = codec

    def warm_up(self) -> list[tuple[str, str, int, float]]:
        """Compress and restore a picture with every bundle; returns verb, bundle, enlargement and seconds of each kind.

        On CUDA every batch size is run, which selects kernels and captures graphs. On a CPU one picture loads
        everything; the first batch of another size only allocates its memory.
        """
        taken = []
        for name, codec in self._codecs.items():
            decoder, sizes, start = codec._open.decoder, self._sizes[:1], time.perf_counter()
            grey = np.full((codec.bundle.hr, codec.bundle.hr, 3), 128, np.uint8)
            if codec.bundle.domain == DOMAIN:
                finder().find(grey)
            payload = codec.compress(grey, align=False)
            taken.append(("compress", name, 1, time.perf_counter() - start))
            if decoder.device == "cuda":
                sizes = self._sizes
                if decoder.lr_size is not None:
                    decoder.warm_up(sizes)  # keeps their buffers; they are replayed as graphs from now on
            for size in sizes:
                start = time.perf_counter()
                self.restore(name, [payload] * size, [RestoreOptions("native")] * size)
                decoding = (time.perf_counter() - start) / size
            taken.append(("restore", name, 1, decoding))
            for larger in codec.bundle.sides[1:]:
                start, factor = time.perf_counter(), larger // codec.bundle.hr
                codec._open.enlarger.enlarge(grey[None], factor)
                taken.append(("restore", name, factor, decoding + time.perf_counter() - start))
        return taken

    def restore(
        self, bundle: str, payloads: Sequence[bytes], options: Sequence[RestoreOptions], measure: Measure = nullcontext
    ) -> list[Outcome]:
        """Restore payloads, or one scene, to picture files; a failed item does not affect the others."""
        items = [(payload, wanted.size, wanted.strength) for payload, wanted in zip(payloads, options, strict=True)]
        restore = partial(self._codecs[bundle]._restore_each, mark=options[0].mark, measure=measure)
        pictures = zip(restore(items, **self._restoring), options, strict=True)
        return [_attempt(_file, picture, wanted, measure) for picture, wanted in pictures]

    def compress(
        self, bundle: str, pictures: Sequence[bytes], options: Sequence[CompressOptions], measure: Measure = nullcontext
    ) -> list[Outcome]:
        """Compress picture files to what their options ask for; a failed item does not affect the others."""
        # One at a time: decoded pictures are large, and the encoder takes a fraction of the time of reading.
        items = zip(pictures, options, strict=True)
        return [_attempt(self._compress, bundle, data, wanted, measure) for data, wanted in items]

    def _compress(self, bundle: str, data: bytes, options: CompressOptions, measure: Measure) -> bytes:
        """The payload, the scene, or the JSON document with all faces of a picture file."""
        codecs = [self._codecs[name] for name in (bundle, *options.fallbacks)]
        with measure("read"):
            rgb = load_picture(data, background=options.background, **self._reading)
        with measure("encode"):
            rate = options.quality, options.max_bytes
            if options.faces == "all":  # docs/service.md
                faces = []
                for payload in compress_faces_within(codecs, *rate, rgb):
                    square, text = payload.header.square, base64.b64encode(payload).decode()
                    faces.append({"payload": text, "bytes": len(payload), "square": square and asdict(square)})
                return json.dumps({"bundle": bundle, "original_size": rgb.shape[1::-1], "faces": faces}).encode()
            if options.faces == "scene":
                return compress_scene_within(codecs, *rate, rgb, most_faces=self._max_scene_faces)
            face = options.align, options.require_face
            return compress_within(codecs, *rate, rgb, options.fit, WHITE, self._reading["max_pixels"], *face)


def _attempt(work: Callable[..., bytes], *arguments: Any) -> Outcome:
    """The result of ``work``, or its error as a value, so that it concerns this item only."""
    try:
        return work(*arguments)
    except EdgegrainError as error:
        return error
    except MemoryError:
        return DeviceMemoryError("there was not enough memory for this request")
    except Exception:  # a defect here or in a library that this item triggers; the batch goes on
        logger.exception("an item failed")
        return ServiceError("an item failed with an unexpected error; see the log")


def _file(picture: Image.Image | Exception, options: RestoreOptions, measure: Measure) -> bytes:
    if isinstance(picture, Exception):
        raise picture
    with measure("write"):
        return picture_file(picture, options.format.upper(), options.quality, fast=True)


def pack(fields: dict[str, Any], blobs: Sequence[bytes] = ()) -> list[bytes]:
    """The parts of a message, to be written in order."""
    return [json.dumps({**fields, "lengths": [len(blob) for blob in blobs]}).encode() + b"\n", *blobs]


def main() -> int:
    """Serve batches until stdin ends; returns the exit status."""
    for ignored in (signal.SIGINT, signal.SIGTERM):  # terminals and systemd send them to the whole process group; the
        signal.signal(ignored, signal.SIG_IGN)  # service drains first and then ends its workers
    requests, answers = _private_streams()
    if (first := _read(requests)) is None:
        return 0
    fields, _ = first
    configure_logs(fields.pop("log_level"))
    try:
        engine = Engine(**fields)
        warm_up = engine.warm_up()
    except EdgegrainError as error:
        _send(answers, {"failed": " ".join(str(error).split())})
        return 1
    _send(answers, {"warm_up": warm_up})
    while (message := _read(requests)) is not None:
        (batch, blobs), seconds = message, dict[str, float]()
        restoring = batch["verb"] == "restore"
        work: Any = engine.restore if restoring else engine.compress
        options = [(RestoreOptions if restoring else CompressOptions)(**item) for item in batch["options"]]
        outcomes: list[Outcome] = work(batch["bundle"], blobs, options, partial(_measured, seconds))
        errors = [None if isinstance(outcome, bytes) else outcome for outcome in outcomes]
        broken = any(isinstance(each, DeviceError) and not isinstance(each, DeviceMemoryError) for each in errors)
        ends = broken and fields.get("device") == "cuda"
        described = [error and {"error": type(error).__name__, "message": str(error)} for error in errors]
        files = [outcome if isinstance(outcome, bytes) else b"" for outcome in outcomes]
        _send(answers, {"outcomes": described, "seconds": seconds, "ends": ends}, files)
        if ends:
            return 1
    return 0


@contextmanager
def _measured(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Add the time of the block to that of its stage."""
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - start


def _private_streams() -> tuple[IO[bytes], IO[bytes]]:
    """The pipes for messages; output that libraries print goes to stderr from now on."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, answers


def _read(stream: IO[bytes]) -> Message | None:
    """The next message; None at the end of the stream."""
    if not (line := stream.readline()):
        return None
    fields = json.loads(line)
    return fields, [stream.read(length) for length in fields.pop("lengths")]


def _send(stream: IO[bytes], fields: dict[str, Any], blobs: Sequence[bytes] = ()) -> None:
    stream.writelines(pack(fields, blobs))
    stream.flush()


if __name__ == "__main__":
    sys.exit(main())
