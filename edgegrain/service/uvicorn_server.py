"""The service under uvicorn, with a shutdown that loses nothing: readiness off, wait, finish, exit 0."""

from __future__ import annotations

import logging
import signal
import socket
import time
from collections.abc import Sequence
from types import FrameType

import uvicorn

from edgegrain.service.application import create_app
from edgegrain.service.json_logs import configure_logs, log
from edgegrain.service.service_state import ServiceState
from edgegrain.service.settings import Settings
from edgegrain.service.supervisor import COMMAND

logger = logging.getLogger(__name__)

BACKLOG = 2048
"""Connections that the system holds until they are accepted."""


class DrainingServer(uvicorn.Server):
    """uvicorn closes its socket at the first signal; this one turns readiness off first, and exits 0 in the end."""

    def __init__(self, config: uvicorn.Config, service: ServiceState) -> None:
        super().__init__(config)
        self._service = service
        self._drain_began: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # uvicorn would note the signal and raise it again after the shutdown, which makes for another exit status.
        if self._drain_began is None:
            self._service.draining = True
            self._drain_began = time.monotonic()
        else:  # asked twice: do not wait any longer, and for Ctrl-C not even for what was accepted
            self.should_exit = True
            self.force_exit = sig == signal.SIGINT

    async def on_tick(self, counter: int) -> bool:
        if self._drain_began is not None and not self.should_exit:
            self.should_exit = time.monotonic() - self._drain_began >= self._service.settings.drain_delay
        return await super().on_tick(counter)


def serve(settings: Settings, worker_command: Sequence[str] = COMMAND) -> None:
    """Serve until SIGTERM or SIGINT; returns when everything that was accepted is answered.

    Args:
        settings: everything that can be set.
        worker_command: as of `create_app`.

    Raises:
        BundleError: a bundle is missing or damaged.
        DeviceError: the device is not available.
        ServiceError: the settings contradict the bundles or each other.
        OSError: the address cannot be listened on.
    """
    configure_logs(settings.log_level)
    app = create_app(settings, worker_command)
    listener = listen(settings.host, settings.port)
    config = uvicorn.Config(
        app, log_config=None, access_log=False, server_header=False,
        proxy_headers=True, forwarded_allow_ips=settings.trusted_proxies, lifespan="on", ws="none",
        timeout_keep_alive=settings.keep_alive, timeout_graceful_shutdown=settings.drain_timeout)
    host, port = listener.getsockname()[:2]
    log(logger, logging.INFO, "listening", url=f"http://{f'[{host}]' if ':' in host else host}:{port}",
        bundles=list(app.state.service.manifests))
    DrainingServer(config, app.state.service).run(sockets=[listener])
    log(logger, logging.INFO, "stopped")


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on an address; port 0 takes a free one. `OSError` if that cannot be."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    # Connections inherit it. Without it an answer's body waits 40 ms for the acknowledgement of its head: asyncio sets
    # it only on sockets that name their protocol, which these do not.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
