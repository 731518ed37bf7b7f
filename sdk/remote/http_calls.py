"""Requests to the service and their answers as values, without a network; both clients use them."""

from __future__ import annotations

import base64
import io
import json
import numbers
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from PIL import Image

from codec_contract.bundle.paths import ALIASES
from codec_contract.bundle.qualities import check_max_bytes
from codec_contract.errors import EdgegrainError, ImageError, PayloadError, ServiceError, reason
from codec_contract.fit import Fit, Size, check_fit
from codec_contract.http_names import BYTES_TYPE, INVALID_PAYLOAD, INVALID_PICTURE, PAYLOAD_TYPE, PROBLEM_PREFIX
from codec_contract.lr_coder.coder_tables import CoderTables
from codec_contract.lr_coder.level_step import MAX_STEP, rounded
from codec_contract.payload import (
    CODING_RAW,
    FIT_STRETCH,
    MAX_ORIGINAL_PIXELS,
    MAX_PAYLOAD_BYTES,
    encode_payload,
)
from codec_contract.rgb import Rgb
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

Made = TypeVar("Made", Payload, Scene)

MAX_FILE_BYTES = 1 << 28
"""Longest picture file that is sent: as many bytes as a service, unless it is configured otherwise, holds at a time."""
MAX_LIST_BYTES = 1 << 20
"""Longest list of bundles; one takes about 2 KiB."""
MAX_FACES_BYTES = 1 << 24
"""Longest list of the payloads of a picture's faces."""

ERRORS: dict[str, type[EdgegrainError]] = {INVALID_PAYLOAD: PayloadError, INVALID_PICTURE: ImageError}
"""Kind of problem -> error class of the local SDK for the same case; all other kinds are `ServiceError`."""


@dataclass(frozen=True)
class Call:
    """One request; ``largest_answer`` is in bytes, more are not read."""

    method: str
    path: str
    largest_answer: int
    parameters: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None


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


def bundles_call() -> Call:
    """Request for the list of the service's bundles."""
    return Call("GET", "/v1/bundles", MAX_LIST_BYTES)


def restore_call(payload: bytes, size: Size, bundle: str | None, strength: float | None, max_pixels: int) -> Call:
    """Request to restore a checked payload or scene; the answer is a PNG, which is lossless.

    Raises:
        ImageError: the strength is not a number, or ``max_pixels`` is no limit.
    """
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
    """Request to compress a picture file; ``faces`` is ``"all"``, ``"scene"`` or None for the largest face.

    Raises:
        ImageError: the fit is unknown, the background is not a colour, or ``max_bytes`` is below 1.
    """
    if fit is not None:
        check_fit(fit)
    most = None if max_bytes is None else str(min(check_max_bytes(max_bytes), MAX_SCENE_BYTES))
    parameters = _parameters(fit=fit, background=bytes(check_background(background)).hex(), bundle=bundle,
                             quality=quality, max_bytes=most, align=None if align else "false",
                             require_face="true" if require_face else None, faces=faces)
    largest = {None: MAX_PAYLOAD_BYTES, "scene": MAX_SCENE_BYTES}.get(faces, MAX_FACES_BYTES)
    return Call("POST", "/v1/compress", largest, parameters, {"Content-Type": BYTES_TYPE, "Accept": "*/*"}, picture)


def picture_file(picture: PictureSource, background: Colour, max_pixels: int) -> bytes:
    """The bytes to send for a picture: a file unchanged, pixels as a PNG.

    Raises:
        ImageError: it cannot be read, or the file has more than `MAX_FILE_BYTES`.
        DeviceMemoryError: there is too little memory to read it.
    """
    if isinstance(picture, (str, os.PathLike)):
        name = str(picture)
        try:
            with enough_memory(name), Path(picture).open("rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
        except (OSError, ValueError) as error:  # ValueError: a null byte in the name
            raise ImageError(f"cannot read the picture {picture}: {reason(error)}") from error
    elif isinstance(picture, (bytes, bytearray, memoryview)):
        data, name = bytes(picture), "the picture"
    else:
        stream = io.BytesIO()
        Image.fromarray(load_picture(picture, background=background, max_pixels=max_pixels)).save(stream, "PNG")
        return stream.getvalue()
    if not data:
        raise ImageError(f"{name} is empty")
    if len(data) > MAX_FILE_BYTES:
        raise ImageError(f"{name} has more than {MAX_FILE_BYTES} bytes, the most that are sent; reduce it first")
    return data


def payload_of_lr(lr: Rgb, bundles: Sequence[RemoteBundle], wanted: str | None) -> bytes:
    """Pack a bare LR, rounded to the bundle's step, into a payload that is restored to the decoder's square.

    Raises:
        ImageError: no bundle of the service takes LRs of that size.
    """
    name = None if wanted is None else ALIASES.get(wanted, wanted)
    sized = [bundle for bundle in bundles if name in (None, bundle.id) and lr.shape == (bundle.lr, bundle.lr, 3)]
    if not sized:
        raise ImageError(f"the service has no bundle {wanted or ''} for an LR of {lr.shape[1]} x {lr.shape[0]}; it has "
                         + ", ".join(f"{bundle.id} ({bundle.lr} x {bundle.lr})" for bundle in bundles))
    bundle = sized[0]
    return encode_payload(
        rounded(lr, bundle.step), contract_id=bytes.fromhex(bundle.lr_contract_id),
        tables=CoderTables.default(),  # raw: no table is used
        original_size=(bundle.hr, bundle.hr), fit=FIT_STRETCH, coding=CODING_RAW)


def read_picture(data: bytes, max_pixels: int, mark: bool = True) -> Image.Image:
    """The RGB picture of an answer, marked if ``mark`` is true.

    Raises:
        ServiceError: it is not a picture, or larger than ``max_pixels``.
        DeviceMemoryError: there is too little memory to decode it.
    """
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
        raise ServiceError(f"the service's answer is not a picture: {error}") from error


def read_payload(data: bytes, kind: type[Made]) -> Made:
    """The payload or scene of an answer; `ServiceError` if it is something else."""
    try:
        return kind(data)
    except PayloadError as error:
        raise ServiceError(f"the service's answer is not a {kind.__name__.lower()}: {error}; is this an edgegrain "
                           "service?") from error


def read_faces(data: bytes) -> list[Payload]:
    """The payloads of all faces in an answer; `ServiceError` if it is something else."""
    try:
        return [Payload(base64.b64decode(face["payload"], validate=True)) for face in json.loads(data)["faces"]]
    except (ValueError, KeyError, TypeError, RecursionError, PayloadError) as error:
        raise ServiceError(f"the service's answer is not a list of payloads: {error}") from error


def read_bundles(data: bytes) -> list[RemoteBundle]:
    """The bundles of an answer; `ServiceError` if it is something else."""
    names = RemoteBundle.__dataclass_fields__
    try:
        items = json.loads(data)
        if not isinstance(items, list):
            raise TypeError(type(items))
        bundles = [RemoteBundle(**{name: item[name] for name in names if name in item}) for item in items]
        if not all(map(_is_possible, bundles)):
            raise ValueError("a field is of another type, or out of range")
        return bundles
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ServiceError("the service's answer is not a list of bundles; is this an edgegrain service?") from error


def read_refusal(status: int, content: bytes) -> EdgegrainError:
    """The error for an answer with another status than 2xx."""
    try:
        problem = json.loads(content)
        kind, detail = str(problem["type"]), str(problem["detail"])
    except (ValueError, KeyError, TypeError, RecursionError):
        kind, detail = "", "its answer has no explanation; is this an edgegrain service?"
    error = ERRORS.get(kind.removeprefix(PROBLEM_PREFIX), ServiceError)
    message = detail if error is not ServiceError else f"the service refused the request with status {status}: {detail}"
    return error(message)


def _is_possible(bundle: RemoteBundle) -> bool:
    """True if the values of a bundle that a service described are of the right types and in their ranges."""
    texts = (bundle.id, bundle.version, bundle.codec, bundle.domain, bundle.lr_contract_id)
    return (all(isinstance(text, str) for text in texts) and bool(re.fullmatch("[0-9a-f]{64}", bundle.lr_contract_id))
            and all(type(number) is int for number in (bundle.hr, bundle.lr, bundle.step))
            and 1 <= bundle.lr <= bundle.hr and bundle.hr**2 <= MAX_ORIGINAL_PIXELS and 1 <= bundle.step <= MAX_STEP)


def _parameters(**values: str | None) -> dict[str, str]:
    return {name: value for name, value in values.items() if value is not None}
