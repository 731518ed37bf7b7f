"""``/health/live``, ``/health/ready`` and ``/metrics``, for orchestrators and Prometheus."""

from __future__ import annotations

from dataclasses import asdict
from typing import Literal

from fastapi import APIRouter
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from pydantic import BaseModel, Field
from starlette.responses import Response

from edgegrain.service.problem_details import problem_response
from edgegrain.service.service_state import Service

router = APIRouter()
metrics_router = APIRouter()


class Liveness(BaseModel):
    """The answer of a process that runs."""

    status: Literal["alive"]


class DecoderDescription(BaseModel):
    """A decoder that restores payloads; the log has the reason for it, whose paths are not for every client."""

    file: str = Field(description="Its name in the bundle.")
    precision: str = Field(description="Type that its convolutions compute in: float32 or float16.")
    ops: str = Field(description="fused, or plain.")
    device: str = Field(description="cpu or cuda.")
    provider: str = Field(description="Execution provider of ONNX Runtime.")
    graphs: bool = Field(description="Batches are replayed as CUDA graphs.")


class Readiness(BaseModel):
    """The answer of a service that is ready."""

    status: Literal["ready"]
    decoders: dict[str, DecoderDescription] = Field(description="By bundle.")


@router.get("/health/live", summary="Liveness")
async def live() -> Liveness:
    """200 while the process runs; restart the container if it stops answering."""
    return Liveness(status="alive")


@router.get("/health/ready", summary="Readiness",
            responses=problem_response(503, "Warming up, or shutting down"))
async def ready(service: Service) -> Readiness:
    """503 until the networks are warmed up (on CUDA at every batch size), while there is no worker, and once shutdown
    has begun. Names the decoders that run."""
    if (problem := service.not_ready()) is not None:
        raise problem
    return Readiness(status="ready", decoders={
        bundle: DecoderDescription(**asdict(decoder)) for bundle, decoder in service.supervisor.decoders.items()})


router.add_api_route("/health/live", live, methods=["HEAD"], include_in_schema=False)
router.add_api_route("/health/ready", ready, methods=["HEAD"], include_in_schema=False)


@metrics_router.get("/metrics", summary="Prometheus metrics", response_class=Response, responses={
    200: {"description": "Text exposition format", "content": {"text/plain": {"schema": {"type": "string"}}}},
    **problem_response(401, "A token is required")})
async def metrics(service: Service) -> Response:
    """Requests, latencies by stage, batch sizes, queue depth, errors by kind."""
    return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)


metrics_router.add_api_route("/metrics", metrics, methods=["HEAD"], include_in_schema=False)
