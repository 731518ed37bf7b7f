"""Refusing while the queue is full, before anything else is done for a request.

Refusals must cost less than answers: under overload there are more of them, and the time they take is missing for the
requests that were let in. So this one comes before routing, parameters and the body.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from edgegrain.service.problem_details import Problem
from edgegrain.service.service_state import ServiceState


class Shedding:
    """ASGI middleware: 503 for what would be queued, while there is no room."""

    def __init__(self, app: ASGIApp, service: ServiceState, routes: Sequence[BaseRoute]) -> None:
        """Watch over ``routes``, whose requests go through the queue."""
        self._app = app
        self._service = service
        self._routes = {route.path: route for route in routes if isinstance(route, Route)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"] in self._routes:
            request = Request(scope)
            try:
                self._service.access.check_token(request)
                self._service.require_room()
            except Problem as problem:
                scope["route"] = self._routes[scope["path"]]  # under which it is counted
                await self._service.answer(request, problem)(scope, receive, send)
                return
        await self._app(scope, receive, send)
