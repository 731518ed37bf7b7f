"""The service's HTTP interface seen from a client: requests made, answers read, no network; both clients share it."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
from PIL import Image

from codec_contract.errors import EdgegrainError, ImageError, PayloadError, ServiceError
from codec_contract.lr_coder.coder import CoderTables
from codec_contract.payload import CODING_RAW, FIT_STRETCH, encode_payload, parse_header
from edge_encoder.preprocessing import Colour, Picture, load_picture
from sdk.remote.retries import RETRIED, parse_retry_after

PAYLOAD_TYPE = "application/vnd.edgegrain"
BYTES_TYPE = "application/octet-stream"
PROBLEM_PREFIX = "urn:edgegrain:problem:"
ERRORS: dict[str, type[EdgegrainError]] = {"invalid-payload": PayloadError, "invalid-picture": ImageError}
"""Kind of problem -> the error that the local SDK raises for the same; all others are `ServiceError`."""


@dataclass(frozen=True)
class Call:
    """One request."""

    method: str
    path: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None


@dataclass(frozen=True)
class RemoteBundle:
    """A bundle that a service offers; sizes in pixels, ``lr_contract_id`` in hex."""

    id: str
    version: str
    codec: str
    domain: str
    hr: int
    lr: int
    lr_contract_id: str


@dataclass(frozen=True)
class Refusal:
    """An answer that is none.

    Attributes:
        error: what to raise in the end.
        passing: whether asking again may help.
        retry_after: seconds that the service asked to wait.
    """

    error: EdgegrainError
    passing: bool
    retry_after: float | None


def check_url(url: str) -> str:
    """The service's address without a slash at its end; `ServiceError` unless it is http or https with a host."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ServiceError(f"{url!r} is no address of a service, expected the form http://host:8000")
    return url.rstrip("/")


def require_httpx() -> Any:
    """The module httpx; `ServiceError` naming the command that installs it where it is missing."""
    try:
        import httpx
    except ModuleNotFoundError as error:
        if error.name != "httpx":
            raise
        raise ServiceError(
            "talking to a service needs httpx, which is not installed; install: pip install 'edgegrain[remote]'"
        ) from error
    return httpx


def bundles_call() -> Call:
    """Asking what the service offers."""
    return Call("GET", "/v1/bundles")


def restore_call(payload: bytes, size: str, bundle: str | None, strength: float | None = None) -> Call:
    """Restoring of checked payload bytes; the answer is a PNG, so nothing is lost on the way."""
    parse_header(payload)  # what is damaged already need not travel
    chosen = None if strength is None else repr(float(strength))
    return Call("POST", "/v1/restore", _parameters(size=size, bundle=bundle, strength=chosen),
                {"Content-Type": PAYLOAD_TYPE, "Accept": "image/png"}, payload)


def compress_call(picture: bytes, fit: str, background: Colour, bundle: str | None) -> Call:
    """Compressing of a picture file.

    Raises:
        ImageError: the background is no colour.
    """
    try:
        colour = bytes(background).hex()
    except (TypeError, ValueError):
        colour = ""
    if len(colour) != 6:
        raise ImageError(f"a background colour is three levels 0 to 255, got {background!r}")
    parameters = _parameters(fit=fit, background=colour, bundle=bundle)
    return Call("POST", "/v1/compress", parameters, {"Content-Type": BYTES_TYPE, "Accept": PAYLOAD_TYPE}, picture)


def picture_file(picture: Picture, background: Colour, max_pixels: int) -> bytes:
    """The bytes to send for a picture: a file as it is, pixels as a PNG.

    Raises:
        ImageError: it cannot be read.
    """
    if isinstance(picture, (str, os.PathLike)):
        try:
            return Path(picture).read_bytes()
        except OSError as error:
            raise ImageError(f"cannot read the picture {picture}: {error.strerror or error}") from error
    if isinstance(picture, (bytes, bytearray, memoryview)):
        return bytes(picture)
    stream = io.BytesIO()
    Image.fromarray(load_picture(picture, background=background, max_pixels=max_pixels)).save(stream, "PNG")
    return stream.getvalue()


def payload_of_lr(lr: npt.NDArray[np.uint8], bundles: Sequence[RemoteBundle], wanted: str | None) -> bytes:
    """A bare LR as a payload, so that it can travel; what it is restored to is the decoder's square.

    Raises:
        ImageError: no bundle of the service takes LRs of that size.
    """
    sized = [bundle for bundle in bundles if wanted in (None, bundle.id) and lr.shape == (bundle.lr, bundle.lr, 3)]
    if not sized:
        raise ImageError(f"the service has no bundle {wanted or ''} for an LR of {lr.shape[1]} x {lr.shape[0]}; it has "
                         + ", ".join(f"{bundle.id} ({bundle.lr} x {bundle.lr})" for bundle in bundles))
    bundle = sized[0]
    return encode_payload(
        lr, contract_id=bytes.fromhex(bundle.lr_contract_id), tables=CoderTables.default(),  # raw: no table is used
        original_size=(bundle.hr, bundle.hr), fit=FIT_STRETCH, coding=CODING_RAW)


def read_picture(data: bytes, max_pixels: int) -> Image.Image:
    """The RGB picture of an answer; `ServiceError` if it is none, or larger than ``max_pixels``."""
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            if image.width * image.height > max_pixels:
                raise ServiceError(f"the service sent a picture of {image.width} x {image.height} pixels, more than "
                                   f"{max_pixels}; ask for size='native' or raise max_pixels")
            return image.convert("RGB")
    except ServiceError:
        raise
    except Exception as error:  # a damaged PNG makes Pillow raise various things
        raise ServiceError(f"the service's answer is no picture: {error}") from error


def read_bundles(data: bytes) -> list[RemoteBundle]:
    """The bundles of an answer; `ServiceError` if it says something else."""
    names = RemoteBundle.__dataclass_fields__
    try:
        return [RemoteBundle(**{name: item[name] for name in names}) for item in json.loads(data)]
    except (ValueError, KeyError, TypeError) as error:
        raise ServiceError("the service's answer is no list of bundles; is this an edgegrain service?") from error


def read_refusal(status: int, retry_after: str | None, content: bytes) -> Refusal:
    """What an answer with another status than 2xx means."""
    try:
        problem = json.loads(content)
        kind, detail = str(problem["type"]), str(problem["detail"])
    except (ValueError, KeyError, TypeError):
        kind, detail = "", "its answer has no explanation; is this an edgegrain service?"
    error = ERRORS.get(kind.removeprefix(PROBLEM_PREFIX), ServiceError)
    message = detail if error is not ServiceError else f"the service refused the request with status {status}: {detail}"
    return Refusal(error(message), status in RETRIED, parse_retry_after(retry_after))


def _parameters(**values: str | None) -> dict[str, str]:
    return {name: value for name, value in values.items() if value is not None}
