"""Lingering close: answers sent before the request body has arrived reach the client.

A refusal (too large, no token, queue full) is sent while the client is still sending. If the connection were closed
then, the client's system would discard the answer unread; so the rest of the body is read and discarded for a moment
first. A client that asked with `Expect: 100-continue` sends no body after a refusal: the connection is closed at once.
"""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

LINGER_SECONDS = 1.0
LINGER_BYTES = 1 << 25


class LingeringClose:
    """ASGI middleware: sends the answer at once, and ends it when the body was read or the time is up."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        reading, body_wanted = True, False
        expects_100 = any(name == b"expect" and value.lower() == b"100-continue" for name, value in scope["headers"])

        async def noted() -> Message:
            nonlocal reading, body_wanted
            body_wanted = True
            message = await receive()
            reading = message["type"] == "http.request" and bool(message.get("more_body"))
            return message

        async def lingering(message: Message) -> None:
            nonlocal reading
            if message["type"] == "http.response.start" and expects_100 and not body_wanted:
                reading = False
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            if message["type"] != "http.response.body" or message.get("more_body") or not reading:
                await send(message)
                return
            await send({**message, "more_body": True})
            try:
                async with asyncio.timeout(LINGER_SECONDS):
                    discarded = 0
                    while reading and discarded < LINGER_BYTES:
                        discarded += len((await noted()).get("body", b""))
            except TimeoutError:
                pass
            await send({"type": "http.response.body", "body": b""})

        await self._app(scope, noted, lingering)
