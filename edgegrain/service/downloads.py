"""Files for clients: what they need to encode for this service, and the demonstration page at ``/``.

The files are verified and read once, and kept in memory. A URL of a bundle's file names the bundle, not the content: a
cache asks with the ETag before it uses a file. The page encodes in the browser and restores with this service. Its
files are built from ``clients/web`` (``npm run build:page``) into the folder ``web/``; one whose name ends in ``.gz``
is served under its name without that suffix, compressed. They need no token; the page's requests do.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter
from fastapi import Path as PathParameter
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from codec_contract.bundle.find import controls_of
from codec_contract.bundle.manifest import ENCODER_COREML, ENCODER_ONNX, ENCODER_TFLITE, GOLDEN, Manifest
from edge_encoder import faces
from edgegrain.service.problems import Problem, problem_response
from sdk.payload import coder_tables

if TYPE_CHECKING:
    from edgegrain.service.state import ServiceState

router = APIRouter()
page_router = APIRouter(include_in_schema=False)

FileName = Annotated[
    str, PathParameter(pattern=r"^(encoder\.(onnx|tflite|mlpackage\.zip)|coder(_\d{1,2})?\.json|golden\.json)$")
]
FOLDER = Path(__file__).with_name("web")
MEDIA_TYPES = {".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript"}
MEDIA_TYPES |= {".jpg": "image/jpeg", ".json": "application/json", ".svg": "image/svg+xml", ".txt": "text/plain"}
MEDIA_TYPES |= {".wasm": "application/wasm", ".zip": "application/zip"}
MEDIA_TYPES |= dict.fromkeys((".onnx", ".tflite"), "application/octet-stream")
PAGE_HEADERS = {
    # Isolation from other origins lets the page share memory between threads.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Content-Security-Policy": (
        "default-src 'none'; connect-src 'self'; img-src 'self' blob:; script-src 'self' 'wasm-unsafe-eval'; "
        "style-src 'self'; worker-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
}
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_FILE = {"description": "The file", "content": {"application/octet-stream": _BINARY, "application/zip": _BINARY}}


class ServedFile:
    """A file for clients: its name decides its media type, its SHA-256 in quotes is the ETag."""

    def __init__(self, name: str, data: bytes, headers: Mapping[str, str]) -> None:
        self.name, self.data, self.sha256 = name, data, hashlib.sha256(data).hexdigest()
        self.headers = {**headers, "ETag": f'"{self.sha256}"'}


class FileDescription(BaseModel):
    """A file that clients download."""

    name: str
    url: str = Field(description="Relative to this server.")
    size: int = Field(description="Bytes.")
    sha256: str = Field(description="Of the file, in hex.")


class ControlDescription(BaseModel):
    """A numeric option of restoring."""

    least: float
    most: float
    default: float | None = Field(description="Default; null if the default picture needs no number.")


class RateDescription(BaseModel):
    """A further rate of a bundle, with levels and coder tables of its own."""

    file: str = Field(description="Its coder tables, one of the contract's files.")
    lr_contract_id: str = Field(description="64 hex digits.")
    quality: str | None = Field(description="Its name, for compressing.")


class BundleDescription(BaseModel):
    """A bundle that is served."""

    id: str
    version: str
    codec: str
    domain: str
    hr: int = Field(description="Side of the square that is encoded and decoded, in pixels.")
    lr: int = Field(description="Side of the LR, in pixels.")
    step: int = Field(description="Step of the LR's levels: payloads store multiples of it, and 255.")
    sides: list[int] = Field(description="Sides of the squares that are restored, in pixels: hr first, then larger.")
    preprocessing: dict[str, Any] = Field(description="How a picture is fitted to the square; see the manifest.")
    quality: str | None = Field(description="Name of its rate among the bundles of its domain, for compressing.")
    lr_contract_id: str = Field(description="64 hex digits; a payload names the first four.")
    rates: list[RateDescription] = Field(description="Rates beside the bundle's own, from most to fewest bytes.")
    licence: dict[str, Any]
    controls: dict[str, ControlDescription] = Field(
        description="Numeric options of restoring that this bundle has: strength."
    )
    encoders: list[FileDescription]
    contract: list[FileDescription] = Field(
        description="Further files that a client needs: the coder's tables and the golden vectors."
    )


@router.get("/v1/bundles", summary="List the served bundles", responses=problem_response(401, "A token is required"))
async def bundles(request: Request) -> list[BundleDescription]:
    """All bundles with their encoder files."""
    descriptions: list[BundleDescription] = request.app.state.service.descriptions
    return descriptions


@router.get(
    "/v1/bundles/{bundle}/{name}",
    summary="Download a file for clients",
    response_class=Response,
    responses={
        200: _FILE,
        304: {"description": "The client has the current file"},
        **problem_response(401, "A token is required"),
        **problem_response(404, "Unknown bundle or file"),
        **problem_response(422, "Invalid file name"),
    },
)
async def encoder(request: Request, bundle: str, name: FileName) -> Response:
    """An encoder, its coder tables or golden vectors. A later export may change them: ask again with the ETag."""
    service: ServiceState = request.app.state.service
    manifest = service.manifest(bundle)
    try:
        file = service.files[manifest.id][name]
    except KeyError:
        raise Problem("not-found", f"bundle {manifest.id} has no {name}; /v1/bundles lists its files") from None
    return respond(file, request)


@page_router.get("/")
@page_router.get("/licences.txt")
@page_router.get("/assets/{name}")
@page_router.get("/faces/{name}")
@page_router.get("/runtime/{name}")
async def page(request: Request) -> Response:
    """A file of the demonstration page."""
    name = request.url.path.removeprefix("/") or "index.html"
    if (file := page_files().get(name)) is None:
        raise Problem("not-found", f"the page has no file {name[:80]!r}")
    return respond(file, request)


@cache
def page_files() -> Mapping[str, ServedFile]:
    """Path below ``/`` -> file."""
    files = {}
    stored = {path.relative_to(FOLDER).as_posix(): path for path in FOLDER.rglob("*") if path.is_file()}
    stored |= {f"faces/{path.name}": path for path in Path(faces.__file__).parent.glob("*.onnx")}
    for place, path in stored.items():
        name = place.removesuffix(".gz")
        # Names below assets/ contain a hash of the content.
        caching = "public, max-age=31536000, immutable" if name.startswith("assets/") else "no-cache"
        encoding = {"Content-Encoding": "gzip"} if path.suffix == ".gz" else {}
        files[name] = ServedFile(name, path.read_bytes(), {**PAGE_HEADERS, "Cache-Control": caching, **encoding})
    return files


def describe(manifest: Manifest, files: Mapping[str, ServedFile]) -> BundleDescription:
    """The entry of ``/v1/bundles`` for a bundle and its `client_files`."""
    described, encoders = list[FileDescription](), list[FileDescription]()
    for name, file in files.items():
        url = f"/v1/bundles/{manifest.id}/{name}"
        description = FileDescription(name=name, url=url, size=len(file.data), sha256=file.sha256)
        (encoders if name.startswith("encoder.") else described).append(description)
    alike = ("id", "version", "codec", "domain", "hr", "lr", "sides", "preprocessing", "quality", "licence")
    return BundleDescription(
        **{field: getattr(manifest, field) for field in alike},
        step=coder_tables(manifest).step,
        lr_contract_id=manifest.lr_contract_id.hex(),
        rates=[
            RateDescription(file=rate.coder, lr_contract_id=rate.lr_contract_id.hex(), quality=rate.quality)
            for rate in manifest.further_rates
        ],
        controls={name: ControlDescription(**asdict(control)) for name, control in controls_of(manifest).items()},
        encoders=encoders,
        contract=described,
    )


def client_files(manifest: Manifest) -> Mapping[str, ServedFile]:
    """Name -> file that clients need: the encoder's formats, coder tables and golden vectors."""
    data = {name: manifest.open_file(name) for name in (ENCODER_ONNX, ENCODER_TFLITE) if name in manifest.files}
    if parts := sorted(name for name in manifest.files if name.startswith(f"{ENCODER_COREML}/")):
        data[f"{ENCODER_COREML}.zip"] = _archive({name: manifest.open_file(name) for name in parts})
    names = (*(rate.coder for rate in manifest.rates), GOLDEN)
    data |= {name: manifest.open_file(name) for name in names if name in manifest.files}
    files = {}
    for name, content in data.items():
        headers = {"Cache-Control": "public, no-cache", "Content-Disposition": f'attachment; filename="{name}"'}
        files[name] = ServedFile(name, content, headers)
    return files


def respond(file: ServedFile, request: Request) -> Response:
    """The file, or 304 to a client that has it (RFC 9110, section 13)."""
    known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
    if known & {file.headers["ETag"], "*"}:
        return Response(status_code=304, headers=file.headers)
    return Response(file.data, headers=file.headers, media_type=MEDIA_TYPES[Path(file.name).suffix])


def _archive(files: Mapping[str, bytes]) -> bytes:
    """An archive that is always the same."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name)  # of the earliest date in ZIP
            entry.create_system = 3  # Unix, on Windows too
            archive.writestr(entry, data)
    return stream.getvalue()
