"""Files for clients: verified once, kept in memory, served with ETag and ranges.

A URL names the bundle, not the content, which changes with the bundle's encoder or its export. Caches may keep a file
and ask with its ETag before they use it.
"""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from codec_contract.bundle.file_names import CODER_TABLES, ENCODER_COREML, ENCODER_ONNX, ENCODER_TFLITE, GOLDEN
from codec_contract.bundle.manifest import Manifest
from edgegrain.service.etags import etag_matches
from edgegrain.service.problem_details import Problem

CACHING = "public, no-cache"
COREML_ARCHIVE = f"{ENCODER_COREML}.zip"
"""Name under which the folder of the Core ML encoder is served."""
ZIP_DATE = (1980, 1, 1, 0, 0, 0)
"""The earliest date in ZIP, so that the same bundle always gives the same archive."""

_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")


@dataclass(frozen=True)
class EncoderFile:
    """A file for clients.

    Attributes:
        name: last part of its URL.
        data: its bytes.
        media_type: its media type.
        sha256: SHA-256 of its bytes, in hex; in quotes it is the ETag.
    """

    name: str
    data: bytes
    media_type: str
    sha256: str

    @property
    def etag(self) -> str:
        return f'"{self.sha256}"'


def encoder_files(manifest: Manifest) -> Mapping[str, EncoderFile]:
    """Name -> encoder file, for the formats in a bundle; hashes are checked here.

    Raises:
        BundleError: a file is missing or altered.
    """
    files = {}
    for name in (ENCODER_ONNX, ENCODER_TFLITE):
        if name in manifest.files:
            files[name] = _file(name, manifest.open_file(name), "application/octet-stream")
    parts = sorted(name for name in manifest.files if name.startswith(f"{ENCODER_COREML}/"))
    if parts:
        archive = _archive({name: manifest.open_file(name) for name in parts})
        files[COREML_ARCHIVE] = _file(COREML_ARCHIVE, archive, "application/zip")
    return files


def contract_files(manifest: Manifest) -> Mapping[str, EncoderFile]:
    """Name -> file that a client needs in addition to an encoder: coder tables and golden vectors.

    Raises:
        BundleError: a file is missing or altered.
    """
    return {name: _file(name, manifest.open_file(name), "application/json")
            for name in (CODER_TABLES, GOLDEN) if name in manifest.files}


def respond(file: EncoderFile, request: Request) -> Response:
    """The answer to GET or HEAD: the whole file, one range, or 304 (RFC 9110, sections 13 and 14).

    Raises:
        Problem: 416, the range is outside the file.
    """
    headers = {"ETag": file.etag, "Cache-Control": CACHING, "Accept-Ranges": "bytes",
               "Content-Disposition": f'attachment; filename="{file.name}"'}
    if etag_matches(request.headers.get("if-none-match", ""), file.etag):
        return Response(status_code=304, headers=headers)
    size, chosen = len(file.data), None
    if_range = request.headers.get("if-range")
    if request.method == "GET" and if_range in (None, file.etag):
        chosen = parse_range(request.headers.get("range"), size)
    if chosen is None:
        headers["Content-Length"] = str(size)
        return Response(b"" if request.method == "HEAD" else file.data, headers=headers, media_type=file.media_type)
    first, last = chosen
    headers["Content-Range"] = f"bytes {first}-{last}/{size}"
    return Response(file.data[first : last + 1], 206, headers, file.media_type)


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """(first, last) byte of a ``Range`` header with one range; None without a header or for one to be ignored.

    Raises:
        Problem: 416, it begins after the end of the file.
    """
    match = _RANGE.fullmatch((header or "").strip())
    if not match or match.groups() == ("", ""):
        return None  # other units and several ranges may be answered with the whole file
    first_text, last_text = match.groups()
    if first_text:
        first, last = int(first_text), min(int(last_text) if last_text else size - 1, size - 1)
        if last_text and int(last_text) < int(first_text):
            return None
    else:
        first, last = max(0, size - int(last_text)), size - 1
    if first > last:
        raise Problem("range-not-satisfiable", f"the file has {size} bytes", {"Content-Range": f"bytes */{size}"})
    return first, last


def _file(name: str, data: bytes, media_type: str) -> EncoderFile:
    return EncoderFile(name, data, media_type, hashlib.sha256(data).hexdigest())


def _archive(files: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, ZIP_DATE)
            entry.create_system = 3  # Unix, on Windows too
            archive.writestr(entry, data)
    return stream.getvalue()
