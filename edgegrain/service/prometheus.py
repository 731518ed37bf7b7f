"""The service's Prometheus metrics. Labels have few values: routes, never paths; kinds, never messages."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
ALERT_KINDS = ("internal", "queue-full", "deadline-exceeded")
"""Kinds of problems that `containers/prometheus/alerts.yaml` asks for. They are listed from the start: Prometheus
notices no increase of a series that begins at 1."""


class ServiceMetrics:
    """All metrics in one registry; `docs/service.md` lists their names.

    Attributes:
        registry: the content of ``/metrics``.
    """

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
        self._queue_depth = Gauge(
            "edgegrain_queue_depth", "Pictures in the queue of a verb.", ["verb"], registry=self.registry)
        self._expected_seconds = Gauge(
            "edgegrain_expected_seconds", "Seconds until a request that arrives now is expected to be answered.",
            ["verb"], registry=self.registry)
        self._workers_ready = Gauge(
            "edgegrain_workers_ready", "Workers that are ready, without spares.", registry=self.registry)
        self._spares_ready = Gauge(
            "edgegrain_spare_workers_ready", "Spare workers that are ready.", registry=self.registry)
        self._ready = Gauge("edgegrain_ready", "Result of /health/ready: 1 or 0.", registry=self.registry)

    def watch(
        self, *, verbs: Iterable[str], queue_depth: Callable[[str], int], expected_seconds: Callable[[str], float],
        workers_ready: Callable[[], int], spares_ready: Callable[[], int], ready: Callable[[], bool],
    ) -> None:
        """Set the callbacks that these gauges are read from."""
        for verb in verbs:
            self._queue_depth.labels(verb).set_function(partial(queue_depth, verb))
            self._expected_seconds.labels(verb).set_function(partial(expected_seconds, verb))
        self._workers_ready.set_function(workers_ready)
        self._spares_ready.set_function(spares_ready)
        self._ready.set_function(lambda: float(ready()))
