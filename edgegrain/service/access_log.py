"""Middleware around every request: request id, access log, metrics, security headers."""

from __future__ import annotations

import logging
import time
import uuid

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edgegrain.service.json_logs import log
from edgegrain.service.prometheus import ServiceMetrics

logger = logging.getLogger(__name__)

UNMATCHED = "unmatched"
"""Metrics label of requests without a route, so that clients cannot create labels."""
METHODS = frozenset({"GET", "HEAD", "POST", "OPTIONS"})


class AccessLog:
    """ASGI middleware that logs and counts every request."""

    def __init__(self, app: ASGIApp, metrics: ServiceMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = scope.setdefault("state", {})["request_id"] = str(uuid.uuid4())
        status, sent, start = 0, 0, time.perf_counter()

        async def observed(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                headers["X-Content-Type-Options"] = "nosniff"
                headers.setdefault("Cache-Control", "no-store")
            elif message["type"] == "http.response.body":
                sent += len(message.get("body", b""))
            await send(message)

        self._metrics.requests_in_flight.inc()
        try:
            await self._app(scope, receive, observed)
        except BaseException:
            status = status or 500
            raise
        finally:
            seconds = time.perf_counter() - start
            route = getattr(scope.get("route"), "path", UNMATCHED)
            method = scope["method"] if scope["method"] in METHODS else "other"
            self._metrics.requests_in_flight.dec()
            self._metrics.requests.labels(route, method, str(status)).inc()
            self._metrics.request_seconds.labels(route).observe(seconds)
            quiet = route.startswith(("/health", "/metrics"))
            log(logger, logging.DEBUG if quiet else logging.INFO, "request", request_id=request_id, method=method,
                route=route, status=status, seconds=round(seconds, 6), bytes_sent=sent,
                problem=scope["state"].get("problem"))
