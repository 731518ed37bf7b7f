"""Answers to requests in which the service itself fails, below the middleware that completes every answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class DefectAnswers:
    """ASGI middleware: answers an unexpected exception, unless the answer has begun, and raises it again for the log.

    Starlette's own handler of `Exception` is outside of all middleware, so its answers lack the headers of `AccessLog`
    and those of CORS.
    """

    def __init__(self, app: ASGIApp, answer: Callable[[Request, Exception], Awaitable[Response]]) -> None:
        self._app = app
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def noted(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except Exception as error:
            if scope["type"] == "http" and not started:
                response = await self._answer(Request(scope, receive), error)
                await response(scope, receive, noted)
            raise
