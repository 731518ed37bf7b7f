"""Logs, access log and Prometheus metrics. Labels have few values: routes, never paths; kinds, never messages.

Logs are JSON lines on stderr, one object per event; never a picture, payload, token or query string.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import uuid
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger(__name__)

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
ALERT_KINDS = ("internal", "queue-full", "deadline-exceeded")
"""Kinds of problems that `containers/prometheus/alerts.yaml` asks for. They are listed from the start: Prometheus
notices no increase of a series that begins at 1."""
UNMATCHED = "unmatched"
"""Label of requests without a route, so that clients cannot create labels."""
METHODS = frozenset({"GET", "HEAD", "POST", "OPTIONS"})
PACKAGES = ("codec_contract", "edge_encoder", "edgegrain", "export", "sdk", "server_decoder")
FIELDS = "fields"
"""Attribute of a log record with the event's own fields."""


class JsonFormatter(logging.Formatter):
    """Format time (UTC), level, logger, event, the event's fields, and a traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        entry: dict[str, Any] = {
            "time": f"{moment}.{int(record.msecs):03d}Z", "level": record.levelname.lower(), "logger": record.name,
            "event": record.getMessage(), **getattr(record, FIELDS, {})}
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def configure_logs(level: str) -> None:
    """Send events of at least ``level`` to stderr as JSON lines; those of libraries of at least ``info``.

    At ``debug`` libraries log what no log may hold: Pillow the EXIF data of pictures, for instance.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel("INFO" if level == "debug" else level.upper())
    for package in PACKAGES:
        logging.getLogger(package).setLevel(level.upper())


def log(logger: logging.Logger, level: int, event: str, error: Exception | None = None, /, **fields: Any) -> None:
    """Log an event with fields, and the traceback of an error."""
    logger.log(level, event, exc_info=error, extra={FIELDS: fields})


class ServiceMetrics:
    """All metrics in one registry, the content of ``/metrics``; `docs/service.md` lists their names."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "edgegrain_requests", "Requests by route, method and status.", ["route", "method", "status"],
            registry=self.registry)
        self.request_seconds = Histogram(
            "edgegrain_request_seconds", "Seconds from a request's first byte to the last of its answer.", ["route"],
            buckets=SECONDS, registry=self.registry)
        self.stage_seconds = Histogram(
            "edgegrain_stage_seconds", "Time in a stage: of a picture in the queue, of a batch in the worker's stages.",
            ["verb", "stage"], buckets=SECONDS, registry=self.registry)
        self.batch_size = Histogram(
            "edgegrain_batch_size", "Pictures in a batch.", ["verb"], buckets=BATCHES, registry=self.registry)
        self.errors = Counter(
            "edgegrain_errors", "Problems by kind; each item of a multipart request counts.", ["kind"],
            registry=self.registry)
        for kind in ALERT_KINDS:
            self.errors.labels(kind)
        self.worker_losses = Counter(
            "edgegrain_worker_losses", "Workers that died or hung after they were ready.", registry=self.registry)
        self.refused = Counter(
            "edgegrain_refused", "Pictures that were refused, by verb and reason.", ["verb", "reason"],
            registry=self.registry)
        self.requests_in_flight = Gauge(
            "edgegrain_requests_in_flight", "Requests without an answer yet.", registry=self.registry)
        self.queue_depth = Gauge(
            "edgegrain_queue_depth", "Pictures in the queue of a verb.", ["verb"], registry=self.registry)
        self.expected_seconds = Gauge(
            "edgegrain_expected_seconds", "Seconds until a request that arrives now is expected to be answered.",
            ["verb"], registry=self.registry)
        self.workers_ready = Gauge("edgegrain_workers_ready", "Workers that are ready.", registry=self.registry)
        self.ready = Gauge("edgegrain_ready", "Result of /health/ready: 1 or 0.", registry=self.registry)


class AccessLog:
    """ASGI middleware that logs and counts every request, and gives its answer an id and security headers."""

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
