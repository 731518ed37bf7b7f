"""What the service counts, in Prometheus' terms. Labels take few values: routes, never paths; kinds, never messages."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """One registry with everything in it; `docs/service.md` lists the names.

    Attributes:
        registry: what ``/metrics`` prints.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "edgegrain_requests", "Requests by route, method and status.", ["route", "method", "status"],
            registry=self.registry)
        self.request_seconds = Histogram(
            "edgegrain_request_seconds", "From a request's first byte to its answer's last.", ["route"],
            buckets=SECONDS, registry=self.registry)
        self.stage_seconds = Histogram(
            "edgegrain_stage_seconds", "Time in a stage: of a picture in the queue, of a batch in the worker's stages.",
            ["verb", "stage"], buckets=SECONDS, registry=self.registry)
        self.batch_size = Histogram(
            "edgegrain_batch_size", "Pictures in a batch.", ["verb"], buckets=BATCHES, registry=self.registry)
        self.errors = Counter(
            "edgegrain_errors", "Problems by kind; items of a multipart request count one each.", ["kind"],
            registry=self.registry)
        self.worker_losses = Counter(
            "edgegrain_worker_losses", "Workers that died or hung after they had been ready.", registry=self.registry)
        self.requests_in_flight = Gauge(
            "edgegrain_requests_in_flight", "Requests that have no answer yet.", registry=self.registry)
        self._queue_depth = Gauge("edgegrain_queue_depth", "Pictures that wait.", registry=self.registry)
        self._workers_ready = Gauge("edgegrain_workers_ready", "Workers that are warm.", registry=self.registry)
        self._ready = Gauge("edgegrain_ready", "What /health/ready says: 1 or 0.", registry=self.registry)

    def watch(
        self, *, queue_depth: Callable[[], int], workers_ready: Callable[[], int], ready: Callable[[], bool]
    ) -> None:
        """Read these gauges from the objects that know whenever they are asked for."""
        self._queue_depth.set_function(queue_depth)
        self._workers_ready.set_function(workers_ready)
        self._ready.set_function(lambda: float(ready()))
