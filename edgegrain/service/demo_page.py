"""The demonstration page at ``/``: it encodes in the browser, restores with this service, and compares.

Its files are built from ``clients/web`` (``npm run build:page``) into the folder ``web/`` next to this file. A file
whose name ends in ``.gz`` is stored compressed and served under its name without that suffix. Files are read once and
need no token; the page's requests to ``/v1`` do.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from edgegrain.service.etags import etag_matches
from edgegrain.service.problem_details import Problem

FOLDER = Path(__file__).with_name("web")
MEDIA_TYPES = {
    ".css": "text/css", ".html": "text/html", ".jpg": "image/jpeg", ".js": "text/javascript", ".mjs": "text/javascript",
    ".onnx": "application/octet-stream", ".svg": "image/svg+xml", ".txt": "text/plain", ".wasm": "application/wasm"}

HEADERS = {
    # Isolation from other origins lets the page share memory between threads.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Content-Security-Policy": (
        "default-src 'none'; connect-src 'self'; img-src 'self' blob:; script-src 'self' 'wasm-unsafe-eval'; "
        "style-src 'self'; worker-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    "Referrer-Policy": "no-referrer",
    "Vary": "Accept-Encoding",
    "X-Content-Type-Options": "nosniff",
}

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True)
class PageFile:
    """A file of the page.

    Attributes:
        data: its bytes, compressed if ``compressed``.
        media_type: its media type.
        compressed: True if ``data`` is gzip.
        etag: quoted digest of ``data``.
        caching: value of ``Cache-Control``.
    """

    data: bytes
    media_type: str
    compressed: bool
    etag: str
    caching: str


@cache
def page_files() -> Mapping[str, PageFile]:
    """Path below ``/`` -> file."""
    files = {}
    for path in sorted(FOLDER.rglob("*")):
        if path.is_file():
            stored, data = path.relative_to(FOLDER).as_posix(), path.read_bytes()
            name = stored.removesuffix(".gz")
            # Names below assets/ contain a hash of the content.
            caching = "public, max-age=31536000, immutable" if name.startswith("assets/") else "no-cache"
            files[name] = PageFile(data, MEDIA_TYPES[Path(name).suffix], compressed=name != stored,
                                   etag=f'"{hashlib.sha256(data).hexdigest()}"', caching=caching)
    return files


@router.api_route("/", methods=["GET", "HEAD"])
async def index(request: Request) -> Response:
    """The page."""
    return await _respond(request, "index.html")


@router.api_route("/licences.txt", methods=["GET", "HEAD"])
@router.api_route("/assets/{name}", methods=["GET", "HEAD"])
@router.api_route("/runtime/{name}", methods=["GET", "HEAD"])
async def part(request: Request) -> Response:
    """A file of the page."""
    return await _respond(request, request.url.path.removeprefix("/"))


@cache
def _decompressed(name: str) -> bytes:
    """A file for clients without gzip, once for all of them: an answer keeps its bytes until the client has read it."""
    return gzip.decompress(page_files()[name].data)


async def _respond(request: Request, name: str) -> Response:
    file = page_files().get(name)
    if file is None:
        raise Problem("not-found", f"the page has no file {name[:80]!r}")
    headers = {**HEADERS, "Cache-Control": file.caching, "ETag": file.etag}
    if etag_matches(request.headers.get("if-none-match", ""), file.etag):
        return Response(status_code=304, headers=headers)
    data = file.data
    if file.compressed and "gzip" in request.headers.get("accept-encoding", ""):
        headers["Content-Encoding"] = "gzip"
    elif file.compressed:
        data = await run_in_threadpool(_decompressed, name)  # 14 MB: in a thread, so that other requests go on
    headers["Content-Length"] = str(len(data))
    return Response(b"" if request.method == "HEAD" else data, headers=headers, media_type=file.media_type)
