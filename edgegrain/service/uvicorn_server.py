"""Run the service under uvicorn, with graceful shutdown: readiness off, delay, accepted requests finished, exit 0."""

from __future__ import annotations

import logging
import signal
import socket
import time
from collections.abc import Sequence
from types import FrameType

import uvicorn
from fastapi import FastAPI

from edgegrain.service.application import create_app
from edgegrain.service.head_parsers import http_protocol
from edgegrain.service.json_logs import configure_logs, log
from edgegrain.service.request_head import MAX_HEAD_BYTES
from edgegrain.service.service_state import ServiceState
from edgegrain.service.settings import Settings
from edgegrain.service.worker_protocol import COMMAND

logger = logging.getLogger(__name__)

BACKLOG = 2048
"""Most connections that wait to be accepted."""


class DrainingServer(uvicorn.Server):
    """Turns readiness off before the socket is closed, which uvicorn does at the first signal, and exits with 0."""

    def __init__(self, config: uvicorn.Config, service: ServiceState) -> None:
        super().__init__(config)
        self._service = service
        self._drain_began: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # uvicorn would raise the signal again after the shutdown, which changes the exit status.
        if self._drain_began is None:
            self._service.draining = True
            self._drain_began = time.monotonic()
        else:  # a second signal ends the delay; a second Ctrl-C also drops accepted requests
            self.should_exit = True
            self.force_exit = sig == signal.SIGINT

    async def on_tick(self, counter: int) -> bool:
        if self._drain_began is not None and not self.should_exit:
            self.should_exit = time.monotonic() - self._drain_began >= self._service.settings.drain_delay
        return await super().on_tick(counter)


def serve(settings: Settings, worker_command: Sequence[str] = COMMAND) -> None:
    """Serve until SIGTERM or SIGINT; returns when all accepted requests are answered.

    Args:
        settings: the service's settings.
        worker_command: as for `create_app`.

    Raises:
        BundleError: a bundle is missing or damaged.
        DeviceError: the device is not available.
        ServiceError: the settings contradict the bundles or each other.
        OSError: the address is not available.
    """
    configure_logs(settings.log_level)
    app = create_app(settings, worker_command)
    listener = listen(settings.host, settings.port)
    config = uvicorn_config(app)
    host, port = listener.getsockname()[:2]
    log(logger, logging.INFO, "listening", url=f"http://{f'[{host}]' if ':' in host else host}:{port}",
        bundles=list(app.state.service.manifests))
    DrainingServer(config, app.state.service).run(sockets=[listener])
    log(logger, logging.INFO, "stopped")


def uvicorn_config(app: FastAPI) -> uvicorn.Config:
    """uvicorn's configuration for an application of `create_app`."""
    service: ServiceState = app.state.service
    settings = service.settings
    return uvicorn.Config(
        app, http=http_protocol(service), log_config=None, access_log=False, server_header=False,
        proxy_headers=True, forwarded_allow_ips=settings.trusted_proxies, lifespan="on", ws="none",
        timeout_keep_alive=settings.keep_alive, timeout_graceful_shutdown=settings.drain_timeout,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 picks a free one. `OSError` if the address is not available."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    # Connections inherit this option. Without it the body of an answer waits 40 ms for the acknowledgement of its
    # headers: asyncio sets it only on sockets created with an explicit protocol.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
