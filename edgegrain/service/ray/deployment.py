"""The service as a deployment of Ray Serve: the same application in every replica.

A replica is the whole service of `application`, with its queue and its worker processes; Ray Serve's proxy sends each
request to one of them. This file imports Ray, so only `ray_server` and tests import it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from prometheus_client import generate_latest
from ray import serve
from ray.serve._private import replica as replica_module
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from codec_contract.errors import ServiceError
from edgegrain.service.application import create_app
from edgegrain.service.json_logs import configure_logs
from edgegrain.service.ray.ray_settings import RayOptions
from edgegrain.service.ray.replica_metrics import merge_expositions
from edgegrain.service.service_state import ServiceState
from edgegrain.service.settings import Settings
from edgegrain.service.worker_protocol import COMMAND

APPLICATION, DEPLOYMENT = "edgegrain", "service"
START_ATTEMPTS = 3
"""Consecutive failed starts of a replica after which Ray gives up."""
METRICS_SECONDS = 5.0
"""Longest wait for the other replicas' metrics."""
REQUEST_ID = "X-Request-ID"


def deployment(
    settings: Settings, options: RayOptions, worker_command: Sequence[str] = COMMAND
) -> serve.Application:
    """The application for `ray.serve.run`: replicas scale with the requests in progress, within the options.

    Args:
        settings: settings of every replica; host and port belong to the proxy and are not used here.
        options: number of replicas and the resources of each.
        worker_command: as for `create_app`.
    """
    batch, waiting = settings.batch_sizes[-1] * settings.workers, settings.queue_size + settings.compress_queue_size
    configured = serve.deployment(
        Replica,
        name=DEPLOYMENT,
        autoscaling_config={
            "min_replicas": options.min_replicas,
            "initial_replicas": max(1, options.min_replicas),
            "max_replicas": options.max_replicas,
            "target_ongoing_requests": 2 * batch,  # one batch in progress, one that fills
        },
        ray_actor_options={"num_cpus": options.cpus, "num_gpus": options.gpus},
        # The replica's own bounded queues refuse first, with Retry-After; these limits are a second line of defence.
        max_ongoing_requests=waiting + 4 * batch,
        max_queued_requests=waiting,
        graceful_shutdown_timeout_s=settings.drain_timeout,
        graceful_shutdown_wait_loop_s=0.2,
        max_constructor_retry_count=START_ATTEMPTS,
    )
    return configured.bind(settings, tuple(worker_command), options.address is None)


def warm_before_start(app: FastAPI, service: ServiceState) -> None:
    """Delay the end of the application's start until a worker is ready: Ray sends requests from then on."""
    start = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with start(app):
            try:
                async with asyncio.timeout(service.settings.start_timeout):
                    while service.not_ready() is not None:
                        await asyncio.sleep(0.02)
            except TimeoutError:
                raise ServiceError(
                    f"no worker was ready within {service.settings.start_timeout:g} s; see the log") from None
            yield

    app.router.lifespan_context = lifespan


def keep_internal_port_here() -> None:
    """Bind a replica's port for other deployments, of which there are none, to the loopback address only.

    Ray Serve opens it on every address of the node, in the replica's process after the replica was constructed.
    """
    original = replica_module.add_port_to_grpc_server

    def add_port(server: Any, address: str) -> Any:
        return original(server, address.replace("[::]", "127.0.0.1"))

    replica_module.add_port_to_grpc_server = add_port


async def expositions(handle: Any, own: Callable[[], Awaitable[tuple[str, str]]]) -> dict[str, str]:
    """Id and metrics of all replicas that answer; of this replica alone if one of them hangs."""
    try:
        found = await handle.broadcast("exposition").results_async(timeout_s=METRICS_SECONDS, return_exceptions=True)
    except TimeoutError:
        found = [await own()]
    return dict(item for item in found if not isinstance(item, BaseException))


class ProxyRequestId:
    """ASGI middleware: uses the request id of Ray's proxy in log and problems; the proxy adds it to the answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = Headers(scope=scope).get(REQUEST_ID)
        state = {"request_id": request_id[:64]} if request_id else {}

        async def without_id(message: Message) -> None:
            if message["type"] == "http.response.start" and request_id:
                del MutableHeaders(scope=message)[REQUEST_ID]  # the proxy adds it again
            await send(message)

        await self._app({**scope, "state": state}, receive, without_id)


@serve.ingress()
class Replica:
    """One replica: the application with its workers."""

    def __init__(self, settings: Settings, worker_command: Sequence[str], here_only: bool) -> None:
        if here_only:
            keep_internal_port_here()
        configure_logs(settings.log_level)
        self._application = create_app(settings, worker_command)
        self._service: ServiceState = self._application.state.service
        self._service.exposition = self._all_expositions
        warm_before_start(self._application, self._service)
        self._application.add_middleware(ProxyRequestId)
        self._application.add_middleware(ProxyHeadersMiddleware, trusted_hosts=settings.trusted_proxies)

    def __serve_build_asgi_app__(self) -> FastAPI:
        return self._application

    async def drain(self) -> None:
        """Turn readiness off; requests are still served."""
        self._service.draining = True

    async def exposition(self) -> tuple[str, str]:
        """This replica's id and metrics."""
        text = generate_latest(self._service.metrics.registry).decode()
        return serve.get_replica_context().replica_id.unique_id, text

    async def _all_expositions(self) -> bytes:
        handle = serve.get_deployment_handle(DEPLOYMENT, APPLICATION)
        return merge_expositions(await expositions(handle, self.exposition))
