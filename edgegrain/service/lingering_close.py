"""Answering before a body has arrived, without losing the answer.

A refusal (too large, no token, queue full) is sent while the client still sends. Closing the connection then makes the
client's system throw the answer away unread, so what still comes is read and forgotten for a moment first.
"""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

LINGER_SECONDS = 1.0
LINGER_BYTES = 1 << 25


class Lingering:
    """ASGI middleware: the whole answer goes out at once, its end is declared when the body was read or time is up."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        reading = True

        async def noted() -> Message:
            nonlocal reading
            message = await receive()
            reading = message["type"] == "http.request" and bool(message.get("more_body"))
            return message

        async def lingering(message: Message) -> None:
            if message["type"] != "http.response.body" or message.get("more_body") or not reading:
                await send(message)
                return
            await send({**message, "more_body": True})
            try:
                async with asyncio.timeout(LINGER_SECONDS):
                    forgotten = 0
                    while reading and forgotten < LINGER_BYTES:
                        forgotten += len((await noted()).get("body", b""))
            except TimeoutError:
                pass
            await send({"type": "http.response.body", "body": b""})

        await self._app(scope, noted, lingering)
