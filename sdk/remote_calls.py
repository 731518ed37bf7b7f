"""Requests to the service, their answers, pauses and the options of clients as values, without a network."""

from __future__ import annotations

import base64
import io
import json
import numbers
import os
import random
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from PIL import Image

from codec_contract import __version__
from codec_contract.bundle.find import check_max_bytes
from codec_contract.errors import EdgegrainError, ImageError, PayloadError, ServiceError, needs_extra
from codec_contract.files import content_of, why_unreadable
from codec_contract.fit import Fit, Size, check_fit
from codec_contract.payload import MAX_PAYLOAD_BYTES
from codec_contract.scene import MAX_SCENE_BYTES
from edge_encoder.preprocessing import (
    Colour,
    PictureSource,
    check_background,
    check_max_pixels,
    enough_memory,
    load_picture,
)
from sdk.generated_mark import GeneratedMark, MarkedPicture
from sdk.payload import Payload, Scene

if TYPE_CHECKING:
    import httpx

Made = TypeVar("Made", Payload, Scene)

# Names of the interface, for the service too; docs/service.md describes them.
PAYLOAD_TYPE, BYTES_TYPE = "application/vnd.edgegrain", "application/octet-stream"
"""Media types of payloads and of any file."""
PROBLEM_PREFIX = "urn:edgegrain:problem:"
"""Beginning of a problem's ``type``, before its kind."""
INVALID_PAYLOAD, INVALID_PICTURE = "invalid-payload", "invalid-picture"
"""Kinds of the problems for `PayloadError` and `ImageError`."""
MAX_SECONDS = 1_000_000
"""Longest timeout, pause or patience: eleven days. Sockets and clocks refuse some larger numbers."""
RETRIED = frozenset({408, 429, 502, 503, 504})
"""HTTP statuses of transient errors. No request of the SDK changes the service, so each of them may be repeated."""
MAX_FILE_BYTES = 1 << 28
"""Longest picture file that is sent: as many bytes as a service, unless it is configured otherwise, holds at a time."""
MAX_LIST_BYTES, MAX_FACES_BYTES = 1 << 20, 1 << 24
"""Longest list of bundles, of which one takes about 2 KiB, and of the payloads of a picture's faces."""
MAX_REFUSAL_BYTES = 1 << 16
"""Most bytes that are read of an answer other than 2xx; a problem of the service is shorter."""
LEAST_RATE = 1 << 13
"""Bytes per second at which an answer arrives at least, after the seconds of the timeout."""


@dataclass(frozen=True)
class Call:
    """One request, with the arguments of httpx; no more than the bytes of ``largest_answer`` are read."""

    method: str
    url: str
    largest_answer: int
    params: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    content: bytes | None = None


@dataclass(frozen=True)
class RemoteBundle:
    """A bundle that a service offers; sizes in pixels, ``lr_contract_id`` in hex.

    ``step`` is that of the LR's levels; services up to 0.6 do not name it.
    """

    id: str
    version: str
    codec: str
    domain: str
    hr: int
    lr: int
    lr_contract_id: str
    step: int = 1


def client_options(url: str, token: str | None, timeout: float, concurrency: int) -> dict[str, Any]:
    """Arguments of an httpx client; `ServiceError` if one of them is invalid."""
    with needs_extra("remote", "the remote client needs", ServiceError):
        import httpx

    try:
        address = httpx.URL(url)
        valid = (address.scheme in ("http", "https") and 0 < (address.port or 80) < 1 << 16
                 and address.host and address.raw_host.decode().encode("idna")  # as the socket encodes it
                 and not address.query and not address.fragment)
    except (httpx.InvalidURL, TypeError, UnicodeError):
        valid = False
    if not valid:
        shown = re.sub("//.*@", "//", repr(url))  # without a password
        raise ServiceError(f"{shown} is not the address of a service, expected the form http://host:8000")
    if address.userinfo:
        raise ServiceError("the address of a service holds no user name and password; leave them out, and pass a token "
                           "(token, --token)")
    if token is not None and (not isinstance(token, str) or not re.fullmatch("[!-~]+", token)):
        raise ServiceError("the token is empty, no str, or has characters that no token has, expected printable ASCII "
                           "without spaces and line ends; read it from its file again, without the line end")
    if not isinstance(timeout, numbers.Real) or not 0 < timeout <= MAX_SECONDS:
        raise ServiceError(f"a timeout is a positive number of seconds, at most {MAX_SECONDS}, got {timeout!r}")
    if not isinstance(concurrency, numbers.Integral) or concurrency < 1:
        raise ServiceError(f"concurrency is a number of requests, at least 1, got {concurrency!r}")
    # Pictures and payloads do not compress, and a compressed answer could expand without limit.
    headers = {"User-Agent": f"edgegrain/{__version__}", "Accept-Encoding": "identity"}
    return {
        "base_url": address, "timeout": httpx.Timeout(timeout, connect=min(timeout, 5.0)),
        "headers": headers if token is None else {**headers, "Authorization": f"Bearer {token}"},
        "limits": httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)}


def restore_call(payload: bytes, size: Size, bundle: str | None, strength: float | None, max_pixels: int) -> Call:
    """Request to restore a checked payload or scene; the answer is a PNG, which is lossless."""
    if strength is not None and (isinstance(strength, bool) or not isinstance(strength, numbers.Real)):
        raise ImageError(f"a strength is a number, got {strength!r}")
    try:
        chosen = None if strength is None else repr(float(strength))
    except OverflowError as error:
        raise ImageError("a strength is a number, got one that no float holds") from error
    largest = 4 * check_max_pixels(max_pixels) + (1 << 20)  # a column's rows have a byte each before three of RGB; XMP
    return Call("POST", "/v1/restore", largest, _parameters(size=str(size), bundle=bundle, strength=chosen),
                {"Content-Type": PAYLOAD_TYPE, "Accept": "image/png"}, payload)


def compress_call(
    picture: bytes, background: Colour, bundle: str | None, quality: str | None = None, max_bytes: int | None = None, *,
    fit: Fit | None = None, align: bool = True, require_face: bool = False, faces: str | None = None,
) -> Call:
    """Request to compress a picture file; ``faces`` is ``"all"``, ``"scene"`` or None for the largest face."""
    if fit is not None:
        check_fit(fit)
    most = None if max_bytes is None else str(min(check_max_bytes(max_bytes), MAX_SCENE_BYTES))
    parameters = _parameters(fit=fit, background=bytes(check_background(background)).hex(), bundle=bundle,
                             quality=quality, max_bytes=most, align=None if align else "false",
                             require_face="true" if require_face else None, faces=faces)
    largest = {None: MAX_PAYLOAD_BYTES, "scene": MAX_SCENE_BYTES}.get(faces, MAX_FACES_BYTES)
    return Call("POST", "/v1/compress", largest, parameters, {"Content-Type": BYTES_TYPE, "Accept": "*/*"}, picture)


def picture_file(picture: PictureSource, background: Colour, max_pixels: int) -> bytes:
    """The bytes to send for a picture: a file unchanged, pixels as a PNG."""
    name, picture = "the picture", content_of(picture)
    if isinstance(picture, (str, os.PathLike)):
        name = str(picture)
        try:
            with enough_memory(name), Path(picture).open("rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
        except (OSError, ValueError) as error:  # ValueError: a null byte in the name
            raise ImageError(f"cannot read the picture {picture}: {why_unreadable(picture, error)}") from error
    elif isinstance(picture, (bytes, bytearray, memoryview)):
        data = bytes(picture)
    else:
        stream = io.BytesIO()
        Image.fromarray(load_picture(picture, background=background, max_pixels=max_pixels)).save(stream, "PNG")
        return stream.getvalue()
    if not data:
        raise ImageError(f"{name} is empty")
    if len(data) > MAX_FILE_BYTES:
        raise ImageError(f"{name} has more than {MAX_FILE_BYTES} bytes, the most that are sent; reduce it first")
    return data


def read_picture(data: bytes, max_pixels: int, mark: bool = True) -> Image.Image:
    """The RGB picture of an answer, marked if ``mark`` is true."""
    try:
        with enough_memory("the picture"), Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            if image.width * image.height > max_pixels:
                raise ServiceError(f"the service sent a picture of {image.width} x {image.height} pixels, more than "
                                   f"{max_pixels}; ask for size='native' or raise max_pixels")
            picture = image.convert("RGB")
            xmp = picture.info.pop("xmp", None)
            return MarkedPicture(picture, xmp or GeneratedMark().xmp()) if mark else picture
    except EdgegrainError:
        raise
    except Exception as error:  # Pillow raises various types for a damaged PNG
        raise ServiceError("the service's answer is not a picture; is this an edgegrain service?") from error


def read_payload(data: bytes, kind: type[Made]) -> Made:
    """The payload or scene of an answer."""
    try:
        return kind(data)
    except PayloadError as error:
        raise ServiceError(f"the service's answer is not a {kind.__name__.lower()}: {error}; is this an edgegrain "
                           "service?") from error


def read_faces(data: bytes) -> list[Payload]:
    """The payloads of all faces in an answer."""
    try:
        return [Payload(base64.b64decode(face["payload"], validate=True)) for face in json.loads(data)["faces"]]
    except (ValueError, KeyError, TypeError, RecursionError, PayloadError) as error:
        raise ServiceError(f"the service's answer is not a list of payloads: {error}") from error


def read_bundles(data: bytes) -> list[RemoteBundle]:
    """The bundles of an answer."""
    names = get_type_hints(RemoteBundle)
    try:
        items = json.loads(data)
        if not isinstance(items, list) or any(
                type(item[name]) is not kind for item in items for name, kind in names.items() if name in item):
            raise ValueError("a field is of another type")
        return [RemoteBundle(**{name: item[name] for name in names if name in item}) for item in items]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ServiceError("the service's answer is not a list of bundles; is this an edgegrain service?") from error


def read_refusal(status: int, content: bytes) -> EdgegrainError:
    """The error for an answer with another status than 2xx: the class of the local SDK for the same case."""
    try:
        problem = json.loads(content)
        kind, detail = str(problem["type"]).removeprefix(PROBLEM_PREFIX), str(problem["detail"])
    except (ValueError, KeyError, TypeError, RecursionError):
        kind, detail = "", "its answer has no explanation; is this an edgegrain service?"
    # A terminal that shows a traceback would obey a stranger's escapes.
    detail = "".join(character if character.isprintable() else " " for character in detail)
    if kind in (INVALID_PAYLOAD, INVALID_PICTURE):
        return PayloadError(detail) if kind == INVALID_PAYLOAD else ImageError(detail)
    return ServiceError(f"the service refused the request with status {status}: {detail}")


@dataclass(frozen=True)
class Retries:
    """Retry policy of a client; `ServiceError` if a value is not a number, or out of range.

    Attributes:
        attempts: most attempts for a request; 1 disables retries.
        first_pause: seconds before the second attempt, doubled for each further one, if the service names no pause.
        longest_pause: most seconds of such a pause.
        patience: most seconds of all pauses of a request together. All seconds are 0 to 1,000,000.
    """

    attempts: int = 5
    first_pause: float = 0.2
    longest_pause: float = 10.0
    patience: float = 60.0

    def __post_init__(self) -> None:
        if not isinstance(self.attempts, numbers.Integral):
            raise ServiceError(f"attempts is a whole number, got {self.attempts!r}")
        for name in ("first_pause", "longest_pause", "patience"):
            seconds = getattr(self, name)
            if not isinstance(seconds, numbers.Real) or not 0 <= seconds <= MAX_SECONDS:
                raise ServiceError(f"{name} is a number of seconds from 0 to {MAX_SECONDS}, got {seconds!r}")

    def pause(self, attempt: int, waited: float, retry_after: float | None) -> float | None:
        """Seconds to wait after failed attempt number ``attempt`` (from 1), after pauses of ``waited`` seconds and if
        the service asked for ``retry_after``; None to give up."""
        if attempt >= self.attempts:
            return None
        left = self.patience - waited
        if retry_after is None:
            # 50 % jitter, so that clients that failed together do not retry together.
            pause = min(self.longest_pause, self.first_pause * 2 ** min(attempt - 1, 60)) * random.uniform(0.5, 1)
        else:
            pause = max(retry_after, min(left, retry_after + random.uniform(0, self.first_pause)))
        return pause if pause <= left else None


DEFAULT_RETRIES = Retries()


def parse_retry_after(value: str | None) -> float | None:
    """Seconds of a ``Retry-After`` header; None without a number, as for a date, which needs equal clocks."""
    return float(value) if value and value.strip().isdecimal() else None


class Body:
    """The body of an answer as it arrives, limited in size and time."""

    def __init__(self, response: httpx.Response, limit: int, timeout: float) -> None:
        self.pieces: list[bytes] = []
        self._refused = not response.is_success
        self._limit = MAX_REFUSAL_BYTES if self._refused else limit
        self._length, self._timeout, self._began = 0, timeout, time.monotonic()

    def add(self, piece: bytes) -> bool:
        """False if the rest is not needed; `TimeoutError` if the body arrives too slowly."""
        self.pieces.append(piece)
        self._length += len(piece)
        if self._length > self._limit and not self._refused:
            raise ServiceError(f"the service's answer has more than {self._limit} bytes; for a picture ask for "
                               "size='native' or raise max_pixels, otherwise check that this is an edgegrain service")
        if time.monotonic() - self._began > self._timeout + self._length / LEAST_RATE:
            raise TimeoutError(f"its answer arrives at less than {LEAST_RATE} bytes per second")
        return self._length <= self._limit


def _parameters(**values: str | None) -> dict[str, str]:
    return {name: value for name, value in values.items() if value is not None}
