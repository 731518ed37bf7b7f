"""The service as an ASGI application, and the server that runs it: `create_app` and `serve`."""

from __future__ import annotations

import asyncio
import logging
import secrets
import signal
import socket
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Any

from fastapi import Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import edgegrain
from codec_contract.errors import EdgegrainError, ServiceError
from edgegrain.service import downloads, routes
from edgegrain.service.observability import ServiceMetrics, configure_logs, log
from edgegrain.service.problems import MEDIA_TYPE, Problem, problem_of
from edgegrain.service.settings import Settings
from edgegrain.service.state import Service, ServiceState

logger = logging.getLogger(__name__)

MAX_CONNECTIONS = 4096  # most connections at a time; further ones wait to be accepted
LINGER_SECONDS, LINGER_BYTES = 5.0, 1 << 25  # most that is read of a body that is refused
DESCRIPTION = """Restores pictures from payloads of some hundred bytes. Errors are problem details (RFC 9457); a request
whose answer has `Retry-After` may be repeated after that many seconds."""

_BEARER = HTTPBearer(auto_error=False, description="Required if the service has tokens.")
_REASONS = {"extra_forbidden": "unknown parameter, or a control that the bundle does not have"}
_KIND_OF_STATUS = {400: "bad-request", 404: "not-found", 405: "method-not-allowed", 415: "unsupported-media-type"}


def create_app(settings: Settings) -> FastAPI:
    """The service as an ASGI application; its workers start and stop with its lifespan. Every file is verified here."""
    service = ServiceState(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.workers.start()
        try:
            yield
        finally:
            service.draining = True
            await service.workers.stop()

    app = FastAPI(
        title="edgegrain",
        version=edgegrain.__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url="/docs" if settings.docs else None,
        redoc_url=None,
        redirect_slashes=False,  # clients that do not follow redirects would take the empty answer for a result
    )
    app.state.service = service
    for router in (routes.router, downloads.router, routes.metrics_router):
        app.include_router(router, dependencies=[Depends(check_token)])
    app.include_router(routes.health_router)
    if settings.page:
        app.include_router(downloads.page_router)
    for kind in (Problem, EdgegrainError, RequestValidationError, HTTPException, ClientDisconnect):
        app.add_exception_handler(kind, _answer)
    app.add_middleware(Requests)
    if settings.cors_origins:
        any_header: Any = {"allow_headers": ["*"], "expose_headers": ["*"]}  # requests have no cookies
        origins, methods = list(settings.cors_origins), ["GET", "POST"]
        app.add_middleware(CORSMiddleware, allow_origins=origins, allow_methods=methods, **any_header)
    return app


async def check_token(
    service: Service, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]
) -> None:
    """Raise `Problem` 401 unless a request has one of the service's bearer tokens, if there are any."""
    sent, tokens = "" if given is None else given.credentials, service.settings.tokens
    # Every token is compared, each in constant time, so the duration reveals nothing about them.
    matches = [secrets.compare_digest(sent.encode(), token.get_secret_value().encode()) for token in tokens]
    if tokens and not any(matches):
        wanted = "send the header 'Authorization: Bearer TOKEN' with a valid token"
        raise Problem("unauthorized", wanted, {"WWW-Authenticate": 'Bearer realm="edgegrain"'})


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; returns when all accepted requests are answered."""
    configure_logs(settings.log_level)
    app = create_app(settings)
    port = free_port(settings.host, settings.port)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    log(logger, logging.INFO, "listening", url=f"http://{host}:{port}", bundles=list(app.state.service.manifests))
    asyncio.run(_serve(app, port))
    log(logger, logging.INFO, "stopped")


def free_port(host: str, port: int) -> int:
    """The port, or a free one for 0; `OSError` if the address is not available."""
    # Granian binds with SO_REUSEPORT, with which two services could share a port unnoticed.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    both = host == "::" and socket.has_dualstack_ipv6()
    with socket.create_server((host, port), family=family, dualstack_ipv6=both) as listener:
        return int(listener.getsockname()[1])


def http_server(app: FastAPI, port: int) -> Server:
    """The server of an application of `create_app`; it runs in the current event loop."""
    settings: Settings = app.state.service.settings
    heads = HTTP1Settings(header_read_timeout=round(1000 * settings.head_timeout), max_buffer_size=1 << 16)
    return Server(
        app,
        settings.host,
        port,
        interface=Interfaces.ASGI,
        http=HTTPModes.http1,
        websockets=False,
        backlog=MAX_CONNECTIONS,
        backpressure=MAX_CONNECTIONS,
        log_enabled=False,
        http1_settings=heads,
    )


async def _serve(app: FastAPI, port: int) -> None:
    """Serve until a signal: readiness off, delay, accepted requests finished."""
    service: ServiceState = app.state.service
    settings, server, loop = service.settings, http_server(app, port), asyncio.get_running_loop()
    stopped = asyncio.Event()

    def stop() -> None:
        server.stop()
        stopped.set()

    def drain() -> None:
        if service.draining:
            stop()  # a second signal ends the delay
        else:
            service.draining = True
            loop.call_later(settings.drain_delay, stop)

    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: loop.call_soon_threadsafe(drain))
    serving, stopping = asyncio.create_task(server.serve()), asyncio.create_task(stopped.wait())
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    await asyncio.wait({serving}, timeout=settings.drain_timeout)
    if serving.done():
        serving.result()
    if server.interrupt_children:
        raise ServiceError("the HTTP server has ended; is the address still available?")


class Requests:
    """ASGI middleware: an id, a line in the log and the metrics of every request; defects."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id, status, start = str(uuid.uuid4()), 0, time.perf_counter()

        async def noted() -> Message:
            message = await receive()
            request.state.unread = message.get("more_body", False)
            return message

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                headers["X-Content-Type-Options"] = "nosniff"
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        request = Request(scope, noted)
        metrics: ServiceMetrics = request.app.state.service.metrics
        request.state.request_id = request_id
        # A client that asked with `Expect: 100-continue` sends no body after a refusal.
        request.state.unread = scope["method"] == "POST" and "expect" not in request.headers
        metrics.requests_in_flight.inc()
        try:
            await self._app(scope, noted, observed)
        except Exception as error:  # Starlette's own handler is outside of all middleware: it would add no headers
            log(logger, logging.ERROR, "defect", error, request_id=request_id)
            if status:
                raise
            defect = Problem("internal", "unexpected error in the service; see its log")
            await (await _answer(request, defect))(scope, noted, observed)
        finally:
            seconds, status = time.perf_counter() - start, status or 500
            # Clients cannot create labels.
            route = getattr(scope.get("route"), "path", "unmatched")
            method = scope["method"] if scope["method"] in ("GET", "HEAD", "POST", "OPTIONS") else "other"
            metrics.requests_in_flight.dec()
            metrics.requests.labels(route, method, str(status)).inc()
            metrics.request_seconds.labels(route).observe(seconds)
            level = logging.DEBUG if route.startswith(("/health", "/metrics")) else logging.INFO
            event = {"request_id": request_id, "method": method, "route": route, "status": status}
            problem = getattr(request.state, "problem", None)
            log(logger, level, "request", **event, seconds=round(seconds, 6), problem=problem)


async def _answer(request: Request, error: Exception) -> JSONResponse:
    """The answer for an exception of a route, which is counted and logged as a problem."""
    if isinstance(error, EdgegrainError):
        problem = problem_of(error)
    elif isinstance(error, RequestValidationError):
        # Parameter and reason, without the value: it may hold anything.
        errors = [
            {"parameter": ".".join(map(str, item["loc"][1:])), "reason": _REASONS.get(item["type"], item["msg"])}
            for item in error.errors()
        ]
        detail = "; ".join(f"{item['parameter']}: {item['reason']}" for item in errors)
        problem = Problem("invalid-parameter", detail, errors=errors)
    elif isinstance(error, HTTPException):
        problem = Problem(_KIND_OF_STATUS.get(error.status_code, "bad-request"), str(error.detail), error.headers)
    elif isinstance(error, ClientDisconnect):
        problem = Problem("bad-request", "the body is malformed, or ended before it was complete")
    else:
        assert isinstance(error, Problem)
        problem = error
    service: ServiceState = request.app.state.service
    service.metrics.errors.labels(problem.kind).inc()
    request.state.problem = problem.kind
    # If the connection were closed while a client still sends, its system could discard the answer, and nginx answers
    # 502 instead.
    left = LINGER_BYTES if problem.kind != "body-timeout" else 0
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while request.state.unread and left > 0:
                left -= len((await request.receive()).get("body", b""))
    return JSONResponse(problem.document(request.state.request_id), problem.status, problem.headers, MEDIA_TYPE)
