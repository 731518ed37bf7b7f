"""Load shedding: refuse requests that cannot be answered in time, before any other work.

Under overload most requests are refused, and the time for refusals is lost to the accepted requests. So this check
comes before routing, parameters and the body.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from edgegrain.service.problem_details import Problem
from edgegrain.service.service_state import ServiceState

COMPRESS = "/v1/compress"


class LoadShedding:
    """ASGI middleware: answers 503 to requests whose queue is full, or takes longer than the deadline."""

    def __init__(self, app: ASGIApp, service: ServiceState, routes: Sequence[BaseRoute]) -> None:
        """Apply to ``routes``, whose requests are queued."""
        self._app = app
        self._service = service
        self._routes = {route.path: route for route in routes if isinstance(route, Route)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"] in self._routes:
            request = Request(scope)
            try:
                self._service.access.check_token(request)
                self._service.require_room("compress" if scope["path"] == COMPRESS else "restore")
            except Problem as problem:
                scope["route"] = self._routes[scope["path"]]  # its label in the metrics
                await self._service.answer(request, problem)(scope, receive, send)
                return
        await self._app(scope, receive, send)
