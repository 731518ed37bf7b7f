"""``POST /v1/restore``, ``/v1/restore/batch`` and ``/v1/compress``."""

from __future__ import annotations

import json
import re
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from codec_contract.bundle.manifest import Manifest
from codec_contract.bundle.qualities import Quality
from codec_contract.errors import EdgegrainError, ImageError
from codec_contract.fit import Fit, parse_size
from codec_contract.http_names import BYTES_TYPE, INVALID_PAYLOAD, PAYLOAD_TYPE
from codec_contract.payload import MAX_PAYLOAD_BYTES
from codec_contract.scene import MAX_SCENE_BYTES, is_scene
from edgegrain.service.content_negotiation import MEDIA_TYPES, choose_format
from edgegrain.service.engine_options import QUALITY, CompressOptions, FacesChoice, RestoreOptions
from edgegrain.service.job import Answer, Done, Job
from edgegrain.service.problem_details import MEDIA_TYPE, Problem, problem_of, problem_response, wrong_parameter
from edgegrain.service.request_body import MULTIPART, media_type, read_body, read_parts
from edgegrain.service.result_limits import read_claims
from edgegrain.service.service_state import Service, ServiceState, data_of


async def _refuse_repeated(request: Request) -> None:
    """Raise `Problem` 422 for a query parameter that is given twice: one of its values would be ignored."""
    counts = Counter(name for name, _ in request.query_params.multi_items())
    if repeated := sorted(name for name, count in counts.items() if count > 1):
        raise wrong_parameter(repeated[0][:80], "it is given more than once; send one value")


router = APIRouter(dependencies=[Depends(_refuse_repeated)])

BATCH_TYPE = "multipart/mixed"
_COLOUR = "^[0-9a-fA-F]{6}$"
JSON_TYPE = "application/json"
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_FACES = {"schema": {
    "type": "object", "required": ["bundle", "original_size", "faces"],
    "properties": {"original_size": {"type": "array"}, "faces": {"type": "array", "items": {
        "type": "object", "required": ["payload", "bytes", "square"], "properties": {
            "payload": {"type": "string", "contentEncoding": "base64"}, "bytes": {"type": "integer"},
            "square": {"type": ["object", "null"]}}}}}}}
_FORM = {"schema": {
    "type": "object", "required": ["payload"],
    "properties": {"payload": {"type": "array", "minItems": 1, "items": {"type": "string", "format": "binary"}}}}}


class RestoreParameters(BaseModel):
    """Query parameters of restoring; unknown ones are refused."""

    model_config = ConfigDict(extra="forbid")

    size: str = Field("original", json_schema_extra={"pattern": "^(original|native|[1-9][0-9]{0,4})$"}, description=(
        "original: the original's size; native: the decoder's own resolution; a number: the longest side in pixels, up "
        "to the largest of the bundle's sides, which /v1/bundles lists."))
    quality: int = Field(QUALITY, ge=1, le=100, description="Quality of WebP and JPEG.")
    bundle: str | None = Field(None, max_length=200, description="Id of a served bundle; default: the payload's.")
    seed: int = Field(0, ge=0, lt=1 << 32, description="Seed of the noise, for bundles with this control.")
    strength: float | None = Field(None, gt=0, allow_inf_nan=False, description=(
        "For bundles with this control, whose range /v1/bundles lists: the factor by which the picture is assumed to "
        "have been reduced."))


class CompressParameters(BaseModel):
    """Query parameters of compressing; unknown ones are refused."""

    model_config = ConfigDict(extra="forbid")

    fit: Fit | None = Field(None, description=(
        "Encode the whole picture: pad keeps it and its aspect, stretch fills the square, crop takes the centre."))
    align: bool = Field(True, description="false: encode the whole picture, as fit=pad does.")
    require_face: bool = Field(False, description="Refuse a face that is too small, turned away or cut off.")
    faces: FacesChoice = Field("largest", description=(
        "largest: its payload; all: JSON with a payload of each; scene: one file with all faces and a background."))
    background: str = Field(
        "ffffff", json_schema_extra={"pattern": _COLOUR}, description="Colour behind transparent pixels, as rrggbb.")
    bundle: str | None = Field(None, max_length=200, description="Id of a served bundle; default: the first.")
    quality: Quality | None = Field(None, description=(
        "The served bundle of this rate, for the same kind of pictures as bundle; /v1/bundles lists them. Default: "
        "bundle itself."))
    max_bytes: int | None = Field(None, ge=1, description=(
        "Largest payload or scene: the best quality that fits is taken, up to quality if that is given."))


_PROBLEMS: dict[int | str, dict[str, Any]] = {
    **problem_response(400, "The body is empty or malformed"),
    **problem_response(401, "A token is required"),
    **problem_response(404, "The bundle is not served"),
    **problem_response(408, "The body did not arrive in time"),
    **problem_response(413, "The body is too large"),
    **problem_response(415, "The body is of another media type"),
    **problem_response(422, "The payload, the picture or a parameter is wrong"),
    **problem_response(429, "The client exceeds its rate; see Retry-After"),
    **problem_response(503, "Not ready, or overloaded; see Retry-After"),
}
_RESTORE_PROBLEMS = {**_PROBLEMS, **problem_response(406, "None of the accepted formats is supported")}


@router.post(
    "/v1/restore", summary="Restore a payload or a scene", response_class=Response,
    responses={200: {"description": "The picture", "content": dict.fromkeys(MEDIA_TYPES.values(), _BINARY)},
               **_RESTORE_PROBLEMS},
    openapi_extra={"requestBody": {"required": True, "content": {PAYLOAD_TYPE: _BINARY, BYTES_TYPE: _BINARY}}})
async def restore(
    request: Request, service: Service, parameters: Annotated[RestoreParameters, Query()]
) -> Response:
    """Restore one payload, or the photograph of a scene. `Accept` chooses PNG (the default), WebP or JPEG."""
    options = _restore_options(request, parameters, service.settings.mark)
    _require_type(request, (PAYLOAD_TYPE, BYTES_TYPE))
    service.admit(request)
    with service.budget.account() as account:
        payload = await read_body(
            request, account, limit=MAX_SCENE_BYTES, timeout=service.settings.body_timeout)
        job = _restore_job(service, payload, options, parameters.bundle)
        if isinstance(job, Problem):
            raise job
        if job.key.faces:
            service.access.charge(request, min(job.key.faces, service.settings.rate_burst), charged=1)
        done = data_of((await service.answers(request, [job]))[0])
    return Response(done.data, media_type=MEDIA_TYPES[options.format], headers=_answer_headers(done, job.key.bundle))


@router.post(
    "/v1/restore/batch", summary="Restore several payloads", response_class=Response,
    responses={200: {"description": "One part per payload, in order: the picture, or a problem",
                     "content": {BATCH_TYPE: _BINARY}}, **_RESTORE_PROBLEMS},
    openapi_extra={"requestBody": {"required": True, "content": {MULTIPART: _FORM}}})
async def restore_batch(
    request: Request, service: Service, parameters: Annotated[RestoreParameters, Query()]
) -> Response:
    """Restore several payloads, no scenes. One that is damaged, or lacks the size or a control, fails alone."""
    options = _restore_options(request, parameters, service.settings.mark)
    service.admit(request)
    with service.budget.account() as account:
        payloads = await read_parts(
            request, account, part_limit=MAX_PAYLOAD_BYTES, most=service.settings.largest_form,
            timeout=service.settings.body_timeout)
        service.access.charge(request, len(payloads), charged=1)
        prepared = [Problem(INVALID_PAYLOAD, "it is a scene; send it alone, to /v1/restore") if is_scene(payload)
                    else _restore_job(service, payload, options, parameters.bundle) for payload in payloads]
        jobs = [item for item in prepared if isinstance(item, Job)]
        answers = iter(await service.answers(request, jobs) if jobs else [])
        results = [next(answers) if isinstance(item, Job) else item for item in prepared]
    boundary = uuid.uuid4().hex
    pieces = _multipart(results, boundary.encode(), MEDIA_TYPES[options.format], service)
    return Response(b"".join(pieces), media_type=f"{BATCH_TYPE}; boundary={boundary}")


@router.post(
    "/v1/compress", summary="Compress a picture", response_class=Response,
    responses={200: {"description": "The payload or scene, or with faces=all the payloads in JSON",
                     "content": {PAYLOAD_TYPE: _BINARY, JSON_TYPE: _FACES}}, **_PROBLEMS},
    openapi_extra={"requestBody": {"required": True, "content": {"image/*": _BINARY, BYTES_TYPE: _BINARY}}})
async def compress(
    request: Request, service: Service, parameters: Annotated[CompressParameters, Query()]
) -> Response:
    """Compress one picture: with a bundle of faces, its largest face. Any common format, orientation and colours."""
    if media_type(request) != BYTES_TYPE and not media_type(request).startswith("image/"):
        raise Problem("unsupported-media-type", f"send a picture as image/... or {BYTES_TYPE}",
                      {"Accept-Post": f"image/*, {BYTES_TYPE}"})
    manifests = service.bundles_to_try(parameters.bundle, parameters.quality, parameters.max_bytes)
    options = _compress_options(parameters, manifests[1:])
    service.admit(request)
    with service.budget.account() as account:
        picture = await read_body(
            request, account, limit=service.settings.largest_picture, timeout=service.settings.body_timeout)
        job = service.compress_job(picture, options, manifests[0])
        done = data_of((await service.answers(request, [job]))[0])
    bundle = service.bundle_of(read_claims(done.data)) if options.fallbacks else manifests[0]
    return Response(done.data, media_type=JSON_TYPE if options.faces == "all" else PAYLOAD_TYPE,
                    headers=_answer_headers(done, bundle.id))


def _restore_options(request: Request, parameters: RestoreParameters, mark: bool) -> RestoreOptions:
    file_format = choose_format(request.headers.get("accept"))
    try:
        size = parse_size(parameters.size)
    except ImageError as error:
        raise wrong_parameter("size", str(error)) from error
    return RestoreOptions(
        size, file_format, parameters.quality, parameters.seed, parameters.strength, mark)


def _compress_options(parameters: CompressParameters, fallbacks: Sequence[Manifest]) -> CompressOptions:
    foreign = {"fit", "align", "require_face", *(["max_bytes"] if parameters.faces == "all" else [])}
    given = parameters.model_dump(exclude_defaults=True).keys()
    if parameters.faces != "largest" and (wrong := sorted(foreign & given)):
        raise wrong_parameter(wrong[0], f"faces={parameters.faces} does not take it; leave it out")
    return CompressOptions(
        parameters.fit, _colour(parameters.background), parameters.align, parameters.require_face, parameters.faces,
        parameters.max_bytes, [manifest.id for manifest in fallbacks])


def _colour(text: str) -> tuple[int, int, int]:
    if not re.fullmatch(_COLOUR, text):
        raise wrong_parameter("background", "a colour is six hexadecimal digits without #, such as ffffff")
    red, green, blue = bytes.fromhex(text)
    return red, green, blue


def _require_type(request: Request, accepted: tuple[str, ...]) -> None:
    if media_type(request) not in accepted:
        raise Problem("unsupported-media-type", f"send the payload's bytes as {' or '.join(accepted)}",
                      {"Accept-Post": ", ".join(accepted)})


def _restore_job(
    service: ServiceState, payload: bytes, options: RestoreOptions, bundle: str | None
) -> Job | Problem:
    """The job, or the payload's problem as a value: in a form it concerns one part only.

    Raises:
        Problem: 404, the bundle that the request names is not served.
    """
    try:
        return service.restore_job(payload, options, bundle)
    except EdgegrainError as error:
        return problem_of(error)
    except Problem as problem:
        if problem.kind != "invalid-parameter":  # which depends on the payload: its bundle may lack a control or size
            raise
        return problem


def _multipart(
    results: Sequence[Answer | Problem], boundary: bytes, picture_type: str, service: ServiceState
) -> Iterator[bytes]:
    """The pieces of the multipart answer; pictures are not copied."""
    for index, result in enumerate(results):
        try:
            if isinstance(result, Problem):
                raise result
            content_type, data = picture_type, data_of(result).data
        except Problem as problem:
            service.metrics.errors.labels(problem.kind).inc()
            content_type, data = MEDIA_TYPE, json.dumps(problem.document()).encode()
        headers = f"Content-ID: <{index}>\r\nContent-Type: {content_type}\r\nContent-Length: {len(data)}\r\n\r\n"
        yield b"--%s\r\n%s" % (boundary, headers.encode())
        yield data
        yield b"\r\n"
    yield b"--%s--\r\n" % boundary


def _answer_headers(done: Done, bundle: str) -> dict[str, str]:
    """Headers with the bundle and the milliseconds of each stage."""
    timing = ", ".join(f"{stage};dur={1000 * seconds:.1f}" for stage, seconds in done.seconds.items())
    return {"Server-Timing": timing, "X-Edgegrain-Bundle": bundle}
