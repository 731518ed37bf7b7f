"""``/health/live``, ``/health/ready`` and ``/metrics``, for orchestrators and Prometheus."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from pydantic import BaseModel
from starlette.responses import Response

from edgegrain.service.problem_details import problem_response
from edgegrain.service.service_state import Service

router = APIRouter()
metrics_router = APIRouter()


class Health(BaseModel):
    """A positive health answer."""

    status: Literal["alive", "ready"]


@router.get("/health/live", summary="Liveness")
async def live() -> Health:
    """200 while the process runs; restart the container if it stops answering."""
    return Health(status="alive")


@router.get("/health/ready", summary="Readiness",
            responses=problem_response(503, "Warming up, or shutting down"))
async def ready(service: Service) -> Health:
    """503 until every batch size is warmed up, while there is no worker, and once shutdown has begun."""
    if (problem := service.not_ready()) is not None:
        raise problem
    return Health(status="ready")


@metrics_router.get("/metrics", summary="Prometheus metrics", response_class=Response, responses={
    200: {"description": "Text exposition format", "content": {"text/plain": {"schema": {"type": "string"}}}},
    **problem_response(401, "A token is required")})
async def metrics(service: Service) -> Response:
    """Requests, latencies by stage, batch sizes, queue depth, errors by kind."""
    return Response(await service.exposition(), media_type=CONTENT_TYPE_PLAIN_0_0_4)
