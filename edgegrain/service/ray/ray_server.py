"""Run the service on Ray Serve, with graceful shutdown; Ray is imported when it is called."""

from __future__ import annotations

import logging
import math
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from codec_contract.bundle.paths import find_bundle
from codec_contract.errors import ServiceError
from codec_contract.extras import needs_extra
from edge_encoder.contract_check import check_contract_id
from edgegrain.service.json_logs import configure_logs, log
from edgegrain.service.ray.cluster import ray_cluster
from edgegrain.service.ray.ray_settings import RayOptions
from edgegrain.service.service_state import ServiceState
from edgegrain.service.settings import Settings
from edgegrain.service.uvicorn_server import listen
from edgegrain.service.worker_protocol import COMMAND

logger = logging.getLogger(__name__)

BROADCAST_SECONDS = 5.0
POLL_SECONDS = 0.1


def serve_on_ray(settings: Settings, options: RayOptions, worker_command: Sequence[str] = COMMAND) -> None:
    """Serve until SIGTERM or SIGINT; returns when all accepted requests are answered.

    A cluster that was started here is stopped; from another cluster only this application is removed.

    Args:
        settings: as for `uvicorn_server.serve`; every replica has its own queue, workers and rate limit.
        options: replicas, their resources and the cluster.
        worker_command: as for `create_app`.

    Raises:
        BundleError, DeviceError, ServiceError, OSError: as `uvicorn_server.serve`; Ray is missing, or it or its proxy
            does not start; no replica gets ready.
    """
    settings = adapt(settings, options)
    state = ServiceState(settings, worker_command)  # finds errors in bundles and tokens before Ray starts
    with listen(settings.host, settings.port) as listener:  # finds a port in use; the proxy opens it again
        port = int(listener.getsockname()[1])
    configure_logs(settings.log_level)
    cpus = math.ceil(options.cpus * options.max_replicas)  # a machine has whole ones
    with ray_cluster(options.address, cpus=cpus, show_logs=True):
        with needs_extra("ray", "working on Ray needs", ServiceError):
            from ray import serve
            from ray.exceptions import RayError

            from edgegrain.service.ray.deployment import APPLICATION, DEPLOYMENT, deployment
        quiet = {"log_level": "WARNING", "encoding": "JSON", "enable_access_log": False}  # Ray's own events
        try:
            serve.start(
                proxy_location="EveryNode" if options.address else "HeadOnly", logging_config=quiet,
                http_options={"host": settings.host, "port": port, "keep_alive_timeout_s": settings.keep_alive})
        except (RayError, RuntimeError, TimeoutError) as error:
            raise ServiceError(f"Ray did not start its HTTP proxy: {' '.join(str(error).split())}") from error
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        try:
            serve.run(deployment(settings, options, worker_command), name=APPLICATION, route_prefix="/",
                      logging_config=quiet)
        except BaseException as error:
            if options.address is not None:  # a cluster that keeps running would keep the failed application
                serve.delete(APPLICATION)
            if isinstance(error, RuntimeError):
                raise ServiceError(f"no replica got ready: {' '.join(str(error).split())}") from error
            raise
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        with _stop_requests() as stop:
            log(logger, logging.INFO, "listening", url=f"http://{host}:{port}", bundles=list(state.manifests),
                replicas=[options.min_replicas, options.max_replicas])
            stop.wait(1)
            handle = serve.get_deployment_handle(DEPLOYMENT, APPLICATION)
            with suppress(TimeoutError):  # a replica that hangs does not block the others
                handle.broadcast("drain").results(timeout_s=BROADCAST_SECONDS, return_exceptions=True)
            log(logger, logging.INFO, "draining")
            stop.wait(2, settings.drain_delay)
            serve.delete(APPLICATION)  # returns when the replicas have answered all accepted requests
            if options.address is None:
                serve.shutdown()
    log(logger, logging.INFO, "stopped")


def adapt(settings: Settings, options: RayOptions) -> Settings:
    """The settings of a replica: as many threads as the cores it reserves, a GPU only where one is reserved, and no
    spare worker by default, as other replicas serve while it replaces a lost one.

    Raises:
        ServiceError: the device does not match the reserved GPUs.
        BundleError: a bundle does not exist.
    """
    if (settings.device == "cuda") != (options.gpus > 0):
        raise ServiceError("the device cuda needs a GPU or a fraction of one per replica (--ray-gpus 1 or 0.25), the "
                           "device cpu none")
    threads = settings.threads or max(1, int(options.cpus / settings.workers))
    bundles = settings.bundles
    if options.address is None:  # relative paths are resolved here; on a cluster every machine has its own
        bundles = tuple(str(find_bundle(name, check=check_contract_id).resolve()) for name in bundles)
    return settings.model_copy(update={
        "threads": threads, "bundles": bundles, "spare_workers": settings.spare_workers or 0})


class _StopRequests:
    """The number of signals to stop.

    It is polled: the lock of a `threading.Event` may be held by the very code that a signal interrupts.
    """

    def __init__(self) -> None:
        self._count = 0

    def note(self, signum: int, frame: FrameType | None) -> None:
        self._count += 1

    def wait(self, count: int, seconds: float = math.inf) -> None:
        """Wait for so many signals, at most ``seconds``."""
        end = time.monotonic() + seconds
        while self._count < count and (left := end - time.monotonic()) > 0:
            time.sleep(min(POLL_SECONDS, left))


@contextmanager
def _stop_requests() -> Iterator[_StopRequests]:
    """Record SIGTERM and SIGINT instead of stopping, until the block ends."""
    stop = _StopRequests()
    before: dict[int, Any] = {
        number: signal.signal(number, stop.note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
