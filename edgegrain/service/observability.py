"""Logs and Prometheus metrics. Labels have few values: routes, never paths; kinds, never messages.

Logs are JSON lines on stderr, one object per event; never a picture, payload, token or query string.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
ALERT_KINDS = ("internal", "queue-full", "deadline-exceeded")
"""Kinds of problems that `containers/prometheus/alerts.yaml` asks for. They are listed from the start: Prometheus
notices no increase of a series that begins at 1."""
FIELDS = "fields"  # attribute of a log record with the event's own fields


class JsonFormatter(logging.Formatter):
    """Format time (UTC), level, logger, event, the event's fields, and a traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        entry: dict[str, Any] = {
            "time": moment.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **getattr(record, FIELDS, {}),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def configure_logs(level: str) -> None:
    """Send events of at least ``level`` to stderr as JSON lines; those of other packages of at least ``info``."""
    # At debug, libraries log what no log may hold: Pillow the EXIF data of pictures, for instance.
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel("INFO" if level == "debug" else level.upper())
    logging.getLogger("edgegrain").setLevel(level.upper())


def log(logger: logging.Logger, level: int, event: str, error: Exception | None = None, /, **fields: Any) -> None:
    """Log an event with fields, and the traceback of an error."""
    logger.log(level, event, exc_info=error, extra={FIELDS: fields})


class ServiceMetrics:
    """All metrics in one registry, the content of ``/metrics``; `docs/service.md` lists their names."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        counter, gauge = partial(Counter, registry=self.registry), partial(Gauge, registry=self.registry)
        histogram = partial(Histogram, registry=self.registry)
        text = "Requests by route, method and status."
        self.requests = counter("edgegrain_requests", text, ["route", "method", "status"])
        text = "Seconds from a request's first byte to the last of its answer."
        self.request_seconds = histogram("edgegrain_request_seconds", text, ["route"], buckets=SECONDS)
        text = "Time in a stage: of a picture in the queue, of a batch in the worker's stages."
        self.stage_seconds = histogram("edgegrain_stage_seconds", text, ["verb", "stage"], buckets=SECONDS)
        self.batch_size = histogram("edgegrain_batch_size", "Pictures in a batch.", ["verb"], buckets=BATCHES)
        text = "Problems by kind; each item of a multipart request counts."
        self.errors = counter("edgegrain_errors", text, ["kind"])
        for kind in ALERT_KINDS:
            self.errors.labels(kind)
        self.worker_losses = counter("edgegrain_worker_losses", "Workers that died or hung after they were ready.")
        self.requests_in_flight = gauge("edgegrain_requests_in_flight", "Requests without an answer yet.")
        self.queue_depth = gauge("edgegrain_queue_depth", "Pictures in the queue of a verb.", ["verb"])
        text = "Seconds until a request that arrives now is expected to be answered."
        self.expected_seconds = gauge("edgegrain_expected_seconds", text, ["verb"])
        self.workers_ready = gauge("edgegrain_workers_ready", "Workers that are ready.")
        self.ready = gauge("edgegrain_ready", "Result of /health/ready: 1 or 0.")

    def note_batch(self, verb: str, waited: Sequence[float], seconds: Mapping[str, float]) -> None:
        """Note a batch: for how long each picture was in the queue, and the seconds of the worker's stages."""
        self.batch_size.labels(verb).observe(len(waited))
        for stage, duration in (*(("queue", each) for each in waited), *seconds.items()):
            self.stage_seconds.labels(verb, stage).observe(duration)
