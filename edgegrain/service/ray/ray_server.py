"""The service on Ray Serve, from start to an end that loses nothing; imports Ray when it is called."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from codec_contract.bundle.paths import find_bundle
from codec_contract.errors import ServiceError
from edgegrain.service.json_logs import configure_logs, log
from edgegrain.service.ray.cluster import ray_cluster, ray_missing
from edgegrain.service.ray.ray_settings import RayOptions
from edgegrain.service.service_state import ServiceState
from edgegrain.service.settings import Settings
from edgegrain.service.supervisor import COMMAND
from edgegrain.service.uvicorn_server import listen

logger = logging.getLogger(__name__)

BROADCAST_SECONDS = 5.0


def serve_on_ray(settings: Settings, options: RayOptions, worker_command: Sequence[str] = COMMAND) -> None:
    """Serve until SIGTERM or SIGINT; returns when everything that was accepted is answered.

    Ray started here ends with it. Of a cluster that was there before, only this application is removed.

    Args:
        settings: as of `server.serve`; queue, workers and rate limit are each replica's own.
        options: replicas, and where they run.
        worker_command: as of `create_app`.

    Raises:
        BundleError, DeviceError, ServiceError, OSError: as `server.serve`; Ray is missing or does not start; no
            replica gets warm.
    """
    settings = adapt(settings, options)
    state = ServiceState(settings, worker_command)  # what is wrong with bundles and tokens is found before Ray starts
    with listen(settings.host, settings.port) as listener:  # likewise a port in use; the proxy opens it again
        port = int(listener.getsockname()[1])
    configure_logs(settings.log_level)
    cpus = options.cpus * options.max_replicas
    with ray_cluster(options.address, cpus=cpus, show_logs=True):
        try:
            from ray import serve

            from edgegrain.service.ray.deployment import APPLICATION, DEPLOYMENT, deployment
        except ModuleNotFoundError as error:
            raise ray_missing(error) from error
        quiet = {"log_level": "WARNING", "encoding": "JSON", "enable_access_log": False}  # of Ray's own events
        serve.start(
            proxy_location="EveryNode" if options.address else "HeadOnly", logging_config=quiet,
            http_options={"host": settings.host, "port": port, "keep_alive_timeout_s": settings.keep_alive})
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        try:
            serve.run(deployment(settings, options, worker_command), name=APPLICATION, route_prefix="/",
                      logging_config=quiet)
        except BaseException as error:
            if options.address is not None:  # a cluster that goes on without us would keep what did not start
                serve.delete(APPLICATION)
            if isinstance(error, RuntimeError):
                raise ServiceError(f"no replica got warm: {' '.join(str(error).split())}") from error
            raise
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        with _signals() as asked:
            log(logger, logging.INFO, "listening", url=f"http://{host}:{port}", bundles=list(state.manifests),
                replicas=[options.min_replicas, options.max_replicas])
            asked.first.wait()
            handle = serve.get_deployment_handle(DEPLOYMENT, APPLICATION)
            with suppress(TimeoutError):  # a replica that hangs does not keep the others from ending
                handle.broadcast("drain").results(timeout_s=BROADCAST_SECONDS, return_exceptions=True)
            log(logger, logging.INFO, "draining")
            asked.second.wait(settings.drain_delay)
            serve.delete(APPLICATION)  # returns when the replicas have answered what they had accepted
            if options.address is None:
                serve.shutdown()
    log(logger, logging.INFO, "stopped")


def adapt(settings: Settings, options: RayOptions) -> Settings:
    """The settings of a replica: as many threads as the cores it reserves, a GPU only where one is reserved.

    Raises:
        ServiceError: the device does not fit what is reserved.
        BundleError: there is no such bundle.
    """
    if (settings.device == "cuda") != (options.gpus > 0):
        raise ServiceError("the device cuda needs a part of a GPU for each replica (--ray-gpus 1 or 0.25), the device "
                           "cpu none")
    threads = settings.threads or max(1, int(options.cpus / settings.workers))
    bundles = settings.bundles
    if options.address is None:  # folders are meant from here; on a cluster every machine has its own
        bundles = tuple(str(find_bundle(name).resolve()) for name in bundles)
    return settings.model_copy(update={"threads": threads, "bundles": bundles})


class _Asked:
    """Whether the service was asked to end: once, and once more."""

    def __init__(self) -> None:
        self.first, self.second = threading.Event(), threading.Event()

    def note(self, signum: int, frame: FrameType | None) -> None:
        (self.second if self.first.is_set() else self.first).set()


@contextmanager
def _signals() -> Iterator[_Asked]:
    """SIGTERM and SIGINT noted instead of obeyed, until the block ends."""
    asked = _Asked()
    before: dict[int, Any] = {
        number: signal.signal(number, asked.note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
