"""`create_app`: the service as an ASGI application, from its settings."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse

import edgegrain
from edgegrain.service import bundle_catalogue as catalogue
from edgegrain.service import demo_page as page
from edgegrain.service import health_routes as health
from edgegrain.service import routes
from edgegrain.service.access_log import AccessLog
from edgegrain.service.defect_answers import DefectAnswers
from edgegrain.service.json_logs import log
from edgegrain.service.lingering_close import LingeringClose
from edgegrain.service.load_shedding import LoadShedding
from edgegrain.service.problem_details import Problem
from edgegrain.service.service_state import Service, ServiceState
from edgegrain.service.settings import Settings
from edgegrain.service.worker_protocol import COMMAND

logger = logging.getLogger(__name__)

DESCRIPTION = """Restores pictures from payloads of some hundred bytes. Errors are problem details (RFC 9457); a request
whose answer has `Retry-After` may be repeated after that many seconds."""

_REASONS = {"extra_forbidden": "unknown parameter, or a control that the bundle does not have"}
_KIND_OF_STATUS = {400: "bad-request", 404: "not-found", 405: "method-not-allowed", 415: "unsupported-media-type"}


def create_app(settings: Settings, worker_command: Sequence[str] = COMMAND) -> FastAPI:
    """The service as an ASGI application; its workers start and stop with its lifespan.

    Args:
        settings: the service's settings.
        worker_command: the program of a worker process; tests and load generators substitute it.

    Raises:
        BundleError: a bundle is missing or damaged; every file's hash is checked here.
        ServiceError: the settings contradict the bundles, or the tokens cannot be read.
    """
    service = ServiceState(settings, worker_command)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.supervisor.start()
        try:
            yield
        finally:
            service.draining = True
            await service.supervisor.stop()

    app = FastAPI(
        title="edgegrain", version=edgegrain.__version__, description=DESCRIPTION, lifespan=lifespan,
        docs_url="/docs" if settings.docs else None, redoc_url=None,
        redirect_slashes=False,  # clients that do not follow redirects would take the empty answer for a result
        openapi_url="/openapi.json" if settings.docs else None)
    app.state.service = service
    guarded = [Depends(_check_token),
               Depends(HTTPBearer(auto_error=False, description="Required if the service has tokens."))]
    app.include_router(routes.router, dependencies=guarded)
    app.include_router(catalogue.router, dependencies=guarded)
    app.include_router(health.metrics_router, dependencies=guarded)
    app.include_router(health.router)
    if settings.page:
        app.include_router(page.router)
    app.add_exception_handler(Problem, _answer_problem)
    app.add_exception_handler(RequestValidationError, _answer_validation_error)
    app.add_exception_handler(HTTPException, _answer_http_exception)
    app.add_exception_handler(ClientDisconnect, _answer_disconnect)
    app.add_middleware(LoadShedding, service=service, routes=routes.router.routes)
    app.add_middleware(DefectAnswers, answer=_answer_defect)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=list(settings.cors_origins), allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"], expose_headers=["Retry-After", "X-Request-ID"])
    app.add_middleware(AccessLog, metrics=service.metrics)
    app.add_middleware(LingeringClose)  # the last one added is the outermost
    return app


async def _check_token(request: Request, service: Service) -> None:
    service.access.check_token(request)


def _respond(request: Request, problem: Problem) -> JSONResponse:
    service: ServiceState = request.app.state.service
    return service.answer(request, problem)


async def _answer_problem(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Problem)
    return _respond(request, error)


async def _answer_validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    # Parameter and reason, without the value: it may hold anything.
    errors = [{"parameter": ".".join(map(str, item["loc"][1:])), "reason": _REASONS.get(item["type"], item["msg"])}
              for item in error.errors()]
    detail = "; ".join(f"{item['parameter']}: {item['reason']}" for item in errors)
    return _respond(request, Problem("invalid-parameter", detail, errors=errors))


async def _answer_http_exception(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    kind = _KIND_OF_STATUS.get(error.status_code, "bad-request")
    return _respond(request, Problem(kind, str(error.detail), error.headers))


async def _answer_disconnect(request: Request, error: Exception) -> JSONResponse:
    return _respond(request, Problem("client-closed", "the client left while it sent the body"))


async def _answer_defect(request: Request, error: Exception) -> JSONResponse:
    log(logger, logging.ERROR, "defect", request_id=getattr(request.state, "request_id", None),
        error=type(error).__name__)
    return _respond(request, Problem("internal", "unexpected error in the service; see its log"))
