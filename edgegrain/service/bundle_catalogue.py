"""``GET /v1/bundles`` and the files below it, which clients need to encode for this service."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from codec_contract.bundle.controls import controls_of
from edgegrain.service.encoder_downloads import respond
from edgegrain.service.problem_details import Problem, problem_response
from edgegrain.service.service_state import Service, ServiceState

router = APIRouter()

# The names of `encoder_downloads`, spelled out: type checkers take no constants in a Literal.
FileName = Literal["encoder.onnx", "encoder.tflite", "encoder.mlpackage.zip", "coder.json", "golden.json"]
_BINARY = {"schema": {"type": "string", "format": "binary"}}


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
    lr_contract_id: str = Field(description="64 hex digits; a payload names the first eight.")
    licence: dict[str, Any]
    controls: dict[str, ControlDescription] = Field(
        description="Parameters of restoring that this bundle supports: seed, strength.")
    encoders: list[FileDescription]
    contract: list[FileDescription] = Field(
        description="Further files that a client needs: the coder's tables and the golden vectors.")


@router.get("/v1/bundles", summary="List the served bundles",
            responses=problem_response(401, "A token is required"))
async def bundles(service: Service) -> list[BundleDescription]:
    """All bundles with their encoder files."""
    return [
        BundleDescription(
            id=manifest.id, version=manifest.version, codec=manifest.codec, domain=manifest.domain, hr=manifest.hr,
            lr=manifest.lr, step=service.steps[manifest.id], sides=list(manifest.sides),
            preprocessing=dict(manifest.preprocessing), quality=manifest.quality,
            lr_contract_id=manifest.lr_contract_id.hex(), licence=dict(manifest.licence),
            controls={name: ControlDescription(**asdict(control)) for name, control in controls_of(manifest).items()},
            encoders=[file for file in _descriptions(service, manifest.id) if file.name.startswith("encoder.")],
            contract=[file for file in _descriptions(service, manifest.id) if not file.name.startswith("encoder.")])
        for manifest in service.manifests.values()]


def _descriptions(service: ServiceState, bundle: str) -> list[FileDescription]:
    return [FileDescription(name=file.name, url=f"/v1/bundles/{bundle}/{file.name}", size=len(file.data),
                            sha256=file.sha256)
            for file in service.files[bundle].values()]


@router.get(
    "/v1/bundles/{bundle}/{name}", summary="Download a file for clients", response_class=Response,
    responses={
        200: {"description": "The file", "content": {"application/octet-stream": _BINARY, "application/zip": _BINARY}},
        206: {"description": "A range", "content": {"application/octet-stream": _BINARY, "application/zip": _BINARY}},
        304: {"description": "The client has the current file"},
        **problem_response(401, "A token is required"),
        **problem_response(404, "Unknown bundle or file"),
        **problem_response(416, "The range is outside the file"),
        **problem_response(422, "Invalid file name")})
async def encoder(request: Request, service: Service, bundle: str, name: FileName) -> Response:
    """An encoder, its coder tables or golden vectors. A later export may change them: ask again with the ETag."""
    manifest = service.manifest(bundle)
    try:
        file = service.files[manifest.id][name]
    except KeyError:
        raise Problem("not-found", f"bundle {manifest.id} has no {name}; /v1/bundles lists its files") from None
    return respond(file, request)


router.add_api_route("/v1/bundles", bundles, methods=["HEAD"], include_in_schema=False)
router.add_api_route("/v1/bundles/{bundle}/{name}", encoder, methods=["HEAD"], include_in_schema=False)
