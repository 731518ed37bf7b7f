"""``POST /v1/restore``, ``/v1/restore/batch`` and ``/v1/compress``; ``/health/…`` and ``/metrics``."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from pydantic import Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from codec_contract.bundle.find import Quality
from codec_contract.bundle.manifest import Manifest
from codec_contract.errors import EdgegrainError
from codec_contract.fit import Fit, parse_size
from codec_contract.payload import MAX_PAYLOAD_BYTES
from codec_contract.scene import MAX_SCENE_BYTES
from edgegrain.service.batcher import Answer, BatchKey, Done, Job
from edgegrain.service.bodies import MULTIPART, PART_OVERHEAD, TEXT_TYPE, media_type, parts, whole
from edgegrain.service.engine import QUALITY, CompressOptions, FacesChoice, RestoreOptions
from edgegrain.service.problems import MEDIA_TYPE, Problem, problem_of, problem_response, refused_as, wrong_parameter
from edgegrain.service.settings import Described
from edgegrain.service.state import Service, ServiceState
from sdk.inputs import read_payload_or_scene
from sdk.payload import Payload, Scene
from sdk.remote import BYTES_TYPE, INVALID_PAYLOAD, PAYLOAD_TYPE

COMPRESS = "/v1/compress"


async def _admit(request: Request, service: Service) -> None:
    """Refuse a request that cannot be served: under overload most are."""
    service.admit("compress" if request.scope["path"] == COMPRESS else "restore")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        wanted, headers = "send the body as it is, without Content-Encoding", {"Accept-Encoding": "identity"}
        raise Problem("unsupported-media-type", wanted, headers)


router = APIRouter(dependencies=[Depends(_admit)])
health_router = APIRouter()
metrics_router = APIRouter()

MEDIA_TYPES = {"png": "image/png", "webp": "image/webp", "jpeg": "image/jpeg"}  # supported picture formats
BATCH_TYPE = "multipart/mixed"
JSON_TYPE = "application/json"


def _object(**properties: Any) -> dict[str, Any]:
    """The schema of an object that has all of these."""
    return {"type": "object", "required": list(properties), "properties": properties}


def _body(content: dict[str, Any]) -> dict[str, Any]:
    """The part of OpenAPI on a body: media type -> schema."""
    return {"requestBody": {"required": True, "content": content}}


_BINARY = {"schema": {"type": "string", "format": "binary"}}
_TEXT = {"schema": {"type": "string", "description": "The payload in base64url or base45."}}
_PAYLOAD = {"type": "string", "contentEncoding": "base64"}
_FACE = _object(payload=_PAYLOAD, bytes={"type": "integer"}, square={"type": ["object", "null"]})
_FACES = _object(original_size={"type": "array"}, faces={"type": "array", "items": _FACE})
_FACES["required"].insert(0, "bundle")
_PICTURES = {"image/*": _BINARY, BYTES_TYPE: _BINARY}
_FORM = {MULTIPART: {"schema": _object(payload={"type": "array", "minItems": 1, "items": _BINARY["schema"]})}}


class TextPayload(Described):
    """A payload or scene in JSON."""

    payload: str
    """In base64url or base45."""


class RestoreParameters(Described):
    """Query parameters of restoring."""

    size: str = Field("original", json_schema_extra={"pattern": "^(original|native|[1-9][0-9]{0,4})$"})
    """original: the original's size; native: the decoder's own resolution; a number: the longest side in pixels,
    up to the largest of the bundle's sides, which /v1/bundles lists."""
    quality: int = Field(QUALITY, ge=1, le=100)
    """Quality of WebP and JPEG."""
    bundle: str | None = Field(None, max_length=200)
    """Id of a served bundle; default: the payload's."""
    strength: float | None = Field(None, gt=0, allow_inf_nan=False)
    """For bundles with this control, whose range /v1/bundles lists: the factor by which the picture is assumed to have
    been reduced."""


class CompressParameters(Described):
    """Query parameters of compressing."""

    fit: Fit | None = None
    """Encode the whole picture: pad keeps it and its aspect, stretch fills the square, crop takes the centre."""
    align: bool = True
    """false: encode the whole picture, as fit=pad does."""
    require_face: bool = False
    """Refuse a face that is too small, turned away or cut off."""
    faces: FacesChoice = "largest"
    """largest: its payload; all: JSON with a payload of each; scene: one file with all faces and a background."""
    background: str = Field("ffffff", pattern="^[0-9a-fA-F]{6}$")
    """Colour behind transparent pixels, as rrggbb."""
    bundle: str | None = Field(None, max_length=200)
    """Id of a served bundle; default: the first."""
    quality: Quality | None = None
    """A rate of the served bundles for the same kind of pictures as bundle; /v1/bundles lists them. Default: that
    of bundle itself."""
    max_bytes: int | None = Field(None, ge=1)
    """Largest payload (with faces=all, of each face) or scene: the best quality that fits is taken, up to quality if
    that is given."""


_PROBLEMS: dict[int | str, dict[str, Any]] = {
    **problem_response(400, "The body is empty or malformed"),
    **problem_response(401, "A token is required"),
    **problem_response(404, "The bundle is not served"),
    **problem_response(408, "The body did not arrive in time"),
    **problem_response(413, "The body is too large"),
    **problem_response(415, "The body is of another media type"),
    **problem_response(422, "The payload, the picture or a parameter is wrong"),
    **problem_response(503, "Not ready, or overloaded; see Retry-After"),
}
_RESTORE_PROBLEMS = {**_PROBLEMS, **problem_response(406, "None of the accepted formats is supported")}
_PAYLOADS = {PAYLOAD_TYPE: _BINARY, BYTES_TYPE: _BINARY, TEXT_TYPE: _TEXT}
_PAYLOADS |= {JSON_TYPE: {"schema": TextPayload.model_json_schema()}}
_PICTURE = {"description": "The picture", "content": dict.fromkeys(MEDIA_TYPES.values(), _BINARY)}
_RESTORED: dict[int | str, dict[str, Any]] = {200: _PICTURE, **_RESTORE_PROBLEMS}
_PARTS = {"description": "One part per payload, in order: the picture, or a problem", "content": {BATCH_TYPE: _BINARY}}
_IN_PARTS: dict[int | str, dict[str, Any]] = {200: _PARTS, **_RESTORE_PROBLEMS}
_FILES = {PAYLOAD_TYPE: _BINARY, JSON_TYPE: {"schema": _FACES}}
_RESULT = {"description": "The payload or scene, or with faces=all the payloads in JSON", "content": _FILES}
_COMPRESSED: dict[int | str, dict[str, Any]] = {200: _RESULT, **_PROBLEMS}

post = partial(router.post, response_class=Response)


@post("/v1/restore", summary="Restore a payload or a scene", responses=_RESTORED, openapi_extra=_body(_PAYLOADS))
async def restore(request: Request, service: Service, parameters: Annotated[RestoreParameters, Query()]) -> Response:
    """Restore one payload, or the photograph of a scene. `Accept` chooses PNG (the default), WebP or JPEG."""
    options, kind = _restore_options(request, parameters, service.settings.mark), media_type(request)
    if kind not in _PAYLOADS:
        wanted = "send the payload's bytes as {} or {}, or its text as {} or {}".format(*_PAYLOADS)
        raise Problem("unsupported-media-type", wanted, {"Accept-Post": ", ".join(_PAYLOADS)})
    limit = (2 if kind in (TEXT_TYPE, JSON_TYPE) else 1) * MAX_SCENE_BYTES
    async with service.bodies.read(request, limit, whole) as body:
        job = service.restore_job(_payload_of(kind, body), options, parameters.bundle)
        done = await service.done(request, job)
    return _response(done, MEDIA_TYPES[options.format], job.key.bundle)


@post("/v1/restore/batch", summary="Restore several payloads", responses=_IN_PARTS, openapi_extra=_body(_FORM))
async def restore_batch(
    request: Request, service: Service, parameters: Annotated[RestoreParameters, Query()]
) -> Response:
    """Restore several payloads, no scenes. One that is damaged, or lacks the size or a control, fails alone."""
    options = _restore_options(request, parameters, service.settings.mark)
    if media_type(request) != MULTIPART:
        raise Problem("unsupported-media-type", f"send {MULTIPART}, one payload per part", {"Accept-Post": MULTIPART})
    most = min(service.settings.max_batch_items, service.settings.queue_size)
    parse = partial(parts, request=request, part_limit=MAX_PAYLOAD_BYTES, most=most)
    async with service.bodies.read(request, most * (MAX_PAYLOAD_BYTES + PART_OVERHEAD), parse) as form:
        prepared = [_part_job(service, body, options, parameters.bundle) for body in form]
        jobs = [item for item in prepared if isinstance(item, Job)]
        answers = iter(await service.answers(request, jobs) if jobs else [])
        results = [next(answers) if isinstance(item, Job) else item for item in prepared]
    boundary = uuid.uuid4().hex
    pieces = _multipart(results, boundary.encode(), MEDIA_TYPES[options.format], service)
    return Response(b"".join(pieces), media_type=f"{BATCH_TYPE}; boundary={boundary}")


@post(COMPRESS, summary="Compress a picture", responses=_COMPRESSED, openapi_extra=_body(_PICTURES))
async def compress(request: Request, service: Service, parameters: Annotated[CompressParameters, Query()]) -> Response:
    """Compress one picture: with a bundle of faces, its largest face. Any common format, orientation and colours."""
    if media_type(request) != BYTES_TYPE and not media_type(request).startswith("image/"):
        accepted = {"Accept-Post": f"image/*, {BYTES_TYPE}"}
        raise Problem("unsupported-media-type", f"send a picture as image/... or {BYTES_TYPE}", accepted)
    manifests = service.bundles_to_try(parameters.bundle, parameters.quality, parameters.max_bytes)
    options = _compress_options(parameters, manifests[1:])
    bundle, limit = manifests[0], min(service.settings.max_picture_bytes, service.settings.max_bytes_in_flight)
    key = BatchKey("compress", bundle.id, faces=int(options.faces != "largest"))
    async with service.bodies.read(request, limit, whole) as picture:
        done = await service.done(request, Job(key, picture, options, bundle.hr**2))
    if options.fallbacks and options.faces != "all":
        bundle = service.bundle_of(read_payload_or_scene(done.data))
    return _response(done, JSON_TYPE if options.faces == "all" else PAYLOAD_TYPE, bundle.id)


@health_router.head("/health/live", include_in_schema=False)
@health_router.get("/health/live", summary="Liveness")
async def live() -> dict[str, str]:
    """200 while the process runs; restart the container if it stops answering."""
    return {"status": "alive"}


@health_router.head("/health/ready", include_in_schema=False)
@health_router.get(
    "/health/ready", summary="Readiness", responses=problem_response(503, "Warming up, or shutting down")
)
async def ready(service: Service) -> dict[str, str]:
    """503 until the networks are warmed up (on CUDA at every batch size), while there is no worker, and once shutdown
    has begun."""
    if (problem := service.not_ready()) is not None:
        raise problem
    return {"status": "ready"}


@metrics_router.get(
    "/metrics",
    summary="Prometheus metrics",
    response_class=Response,
    responses={
        200: {"description": "Text exposition format", "content": {"text/plain": {"schema": {"type": "string"}}}},
        **problem_response(401, "A token is required"),
    },
)
async def metrics(service: Service) -> Response:
    """Requests, latencies by stage, batch sizes, queue depth, errors by kind."""
    return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)


def _restore_options(request: Request, parameters: RestoreParameters, mark: bool) -> RestoreOptions:
    file_format = choose_format(request.headers.get("accept"))
    with refused_as("size"):
        size = parse_size(parameters.size)
    return RestoreOptions(size, file_format, parameters.quality, parameters.strength, mark)


def _compress_options(parameters: CompressParameters, fallbacks: Sequence[Manifest]) -> CompressOptions:
    given = parameters.model_dump(exclude_defaults=True).keys()
    if parameters.faces != "largest" and (wrong := sorted({"fit", "align", "require_face"} & given)):
        raise wrong_parameter(wrong[0], f"faces={parameters.faces} does not take it; leave it out")
    red, green, blue = bytes.fromhex(parameters.background)
    options = CompressOptions(**parameters.model_dump(exclude={"bundle", "background"}))
    return replace(options, background=(red, green, blue), fallbacks=[manifest.id for manifest in fallbacks])


def _payload_of(kind: str, body: bytes) -> Payload | Scene:
    """The payload or scene of a body of a media type: its bytes, its text, or JSON with its text."""
    if kind == JSON_TYPE:
        try:
            body = TextPayload.model_validate_json(body).payload.encode()
        except ValidationError as error:
            raise Problem("bad-request", 'the body is no JSON of the form {"payload": "qEb..."}') from error
    return read_payload_or_scene(body)


def _part_job(service: ServiceState, body: bytes, options: RestoreOptions, bundle: str | None) -> Job | Problem:
    """The job of a form's part, or its problem as a value: it concerns this part only."""
    try:
        payload = read_payload_or_scene(body)
        if isinstance(payload, Scene):
            return Problem(INVALID_PAYLOAD, "it is a scene; send it alone, to /v1/restore")
        return service.restore_job(payload, options, bundle)
    except EdgegrainError as error:
        return problem_of(error)
    except Problem as problem:
        if problem.kind == "unknown-bundle":
            raise
        return problem


def _multipart(results: Sequence[Answer], boundary: bytes, picture_type: str, service: ServiceState) -> Iterator[bytes]:
    """The pieces of the multipart answer; pictures are not copied."""
    for index, result in enumerate(results):
        if isinstance(result, Problem):
            service.metrics.errors.labels(result.kind).inc()
            content_type, data = MEDIA_TYPE, json.dumps(result.document()).encode()
        else:
            content_type, data = picture_type, result.data
        headers = f"Content-ID: <{index}>\r\nContent-Type: {content_type}\r\nContent-Length: {len(data)}\r\n\r\n"
        yield b"--%s\r\n%s" % (boundary, headers.encode())
        yield data
        yield b"\r\n"
    yield b"--%s--\r\n" % boundary


def _response(done: Done, media_type: str, bundle: str) -> Response:
    """The result, with the bundle and the milliseconds of each stage in the head."""
    timing = ", ".join(f"{stage};dur={1000 * seconds:.1f}" for stage, seconds in done.seconds.items())
    headers = {"Server-Timing": timing, "X-Edgegrain-Bundle": bundle}
    return Response(done.data, media_type=media_type, headers=headers)


def choose_format(accept: str | None) -> str:
    """The key of `MEDIA_TYPES` that an ``Accept`` header names first, whatever its weights; PNG for any picture."""
    named = {**{media_type: name for name, media_type in MEDIA_TYPES.items()}, "image/*": "png", "*/*": "png"}
    for part in (accept or "*/*").split(","):
        if (media_range := part.partition(";")[0].strip().lower()) in named:
            return named[media_range]
    raise Problem("not-acceptable", f"pictures are made as {', '.join(MEDIA_TYPES.values())}; accept one of these")
