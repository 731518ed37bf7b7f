"""``/health/live``, ``/health/ready`` and ``/metrics``: what orchestrators and Prometheus ask."""

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
    """An answer that all is well."""

    status: Literal["alive", "ready"]


@router.get("/health/live", summary="Whether the process answers")
async def live() -> Health:
    """Restart the container when this stops to answer."""
    return Health(status="alive")


@router.get("/health/ready", summary="Whether to send requests here",
            responses=problem_response(503, "Warming up, or shutting down"))
async def ready(service: Service) -> Health:
    """503 until every batch size is warm, while no worker lives, and from the moment shutdown begins."""
    trouble = service.trouble()
    if trouble is not None:
        raise trouble
    return Health(status="ready")


@metrics_router.get("/metrics", summary="Prometheus metrics", response_class=Response, responses={
    200: {"description": "Text exposition format", "content": {"text/plain": {"schema": {"type": "string"}}}},
    **problem_response(401, "A token is required")})
async def metrics(service: Service) -> Response:
    """Requests, latencies by stage, batch sizes, queue depth, errors by kind."""
    return Response(await service.exposition(), media_type=CONTENT_TYPE_PLAIN_0_0_4)
