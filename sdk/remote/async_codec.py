"""`AsyncRemoteCodec`: `RemoteCodec` for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from PIL import Image

from codec_contract.bundle.qualities import Quality
from codec_contract.fit import MAX_PHOTO_PIXELS, MAX_PIXELS, Fit, Size
from edge_encoder.preprocessing import WHITE, Colour, PictureSource
from sdk.batches import position_in_batch, with_strengths
from sdk.inputs import RestoreSource, read_restore_source
from sdk.payload import Payload, Scene
from sdk.remote import http_calls as calls
from sdk.remote.answer_body import AnswerBody
from sdk.remote.attempts import Attempts
from sdk.remote.http_calls import Call, RemoteBundle
from sdk.remote.httpx_client import (
    OwnClient,
    check_url,
    client_options,
    closed,
    malformed,
    request_options,
    require_httpx,
    unreachable,
)
from sdk.remote.retries import DEFAULT_RETRIES, Retries, as_retries

if TYPE_CHECKING:
    import httpx

Item = TypeVar("Item")
Result = TypeVar("Result")


class AsyncRemoteCodec:
    """`RemoteCodec` for asyncio: the same methods as coroutines, with the same arguments and errors.

    Example:
        async with sdk.connect_async("http://host:8000") as remote:
            pictures = await remote.restore_batch(payloads)
    """

    def __init__(
        self, url: str, *, token: str | None = None, timeout: float = 30.0, retries: Retries | int = DEFAULT_RETRIES,
        concurrency: int = 8,
    ) -> None:
        """Arguments and errors as `sdk.connect`."""
        self.url = check_url(url)
        self._httpx = require_httpx()
        self._retries = as_retries(retries)
        self._timeout = timeout
        self._concurrency = concurrency
        options = client_options(self._httpx, self.url, token, timeout, concurrency)
        self._client: OwnClient[httpx.AsyncClient] = OwnClient(partial(self._httpx.AsyncClient, **options))
        self._bundles: list[RemoteBundle] | None = None

    async def compress(
        self, picture: PictureSource, fit: Fit | None = None, *, bundle: str | None = None, background: Colour = WHITE,
        max_pixels: int = MAX_PHOTO_PIXELS, align: bool = True, require_face: bool = False,
        quality: Quality | None = None, max_bytes: int | None = None,
    ) -> Payload:
        """Let the service compress one picture."""
        data = await asyncio.to_thread(calls.picture_file, picture, background, max_pixels)
        call = calls.compress_call(
            data, background, bundle, quality, max_bytes, fit=fit, align=align, require_face=require_face)
        return calls.read_payload(await self._send(call), Payload)

    async def compress_faces(
        self, picture: PictureSource, *, bundle: str | None = None, background: Colour = WHITE,
        max_pixels: int = MAX_PHOTO_PIXELS,
    ) -> list[Payload]:
        """Let the service compress every face of a photograph."""
        data = await asyncio.to_thread(calls.picture_file, picture, background, max_pixels)
        return calls.read_faces(await self._send(calls.compress_call(data, background, bundle, faces="all")))

    async def compress_scene(
        self, picture: PictureSource, *, bundle: str | None = None, max_bytes: int | None = None,
        background: Colour = WHITE, max_pixels: int = MAX_PHOTO_PIXELS, quality: Quality | None = None,
    ) -> Scene:
        """Let the service compress all faces of a photograph and its background."""
        data = await asyncio.to_thread(calls.picture_file, picture, background, max_pixels)
        call = calls.compress_call(data, background, bundle, quality, max_bytes, faces="scene")
        return calls.read_payload(await self._send(call), Scene)

    async def compress_batch(
        self, pictures: Iterable[PictureSource], fit: Fit | None = None, *, bundle: str | None = None,
        background: Colour = WHITE, max_pixels: int = MAX_PHOTO_PIXELS, align: bool = True, require_face: bool = False,
        quality: Quality | None = None, max_bytes: int | None = None,
    ) -> list[Payload]:
        """Compress pictures with several requests at a time; in order, errors name the position, counted from 0."""
        return await self._each("picture", pictures, lambda picture: self.compress(
            picture, fit, bundle=bundle, background=background, max_pixels=max_pixels, align=align,
            require_face=require_face, quality=quality, max_bytes=max_bytes))

    async def restore(
        self, payload: RestoreSource, *, bundle: str | None = None, size: Size = "original",
        max_pixels: int = MAX_PIXELS, strength: float | None = None, mark: bool = True,
    ) -> Image.Image:
        """Let the service restore one payload, scene or bare LR."""
        source = await asyncio.to_thread(read_restore_source, payload)
        data = source if isinstance(source, bytes) else calls.payload_of_lr(source, await self._known(), bundle)
        answer = await self._send(calls.restore_call(data, size, bundle, strength, max_pixels))
        return await asyncio.to_thread(calls.read_picture, answer, max_pixels, mark)

    async def restore_batch(
        self, payloads: Iterable[RestoreSource], *, bundle: str | None = None, size: Size = "original",
        max_pixels: int = MAX_PIXELS, strength: float | Sequence[float | None] | None = None, mark: bool = True,
    ) -> list[Image.Image]:
        """Restore payloads with several requests at a time; in order, errors name the position, counted from 0.

        ``strength`` is one for all payloads, or one for each.
        """
        return await self._each("payload", with_strengths(payloads, strength), lambda item: self.restore(
            item[0], bundle=bundle, size=size, max_pixels=max_pixels, strength=item[1], mark=mark))

    async def bundles(self) -> list[RemoteBundle]:
        """List the bundles of the service."""
        return calls.read_bundles(await self._send(calls.bundles_call()))

    async def close(self) -> None:
        """Close the connections."""
        await self._client.get().aclose()

    async def __aenter__(self) -> AsyncRemoteCodec:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncRemoteCodec({self.url!r})"

    async def _known(self) -> list[RemoteBundle]:
        if self._bundles is None:
            self._bundles = await self.bundles()
        return self._bundles

    async def _each(
        self, kind: str, items: Iterable[Item], work: Callable[[Item], Awaitable[Result]]
    ) -> list[Result]:
        room = asyncio.Semaphore(self._concurrency)

        async def placed(index: int, item: Item) -> Result:
            async with room:
                with position_in_batch(kind, index):
                    return await work(item)

        tasks = []
        try:
            for index, item in enumerate(items):  # which may raise an error of the caller's
                tasks.append(asyncio.create_task(placed(index, item)))
            return [await task for task in tasks]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self, call: Call) -> bytes:
        """The answer's body; transient errors are retried."""
        attempts = Attempts(self._retries)
        while True:
            client = self._client.get()
            if client.is_closed:
                raise closed(self.url)
            try:
                async with client.stream(**request_options(call)) as response:
                    body = AnswerBody(call.largest_answer, self._timeout, refused=not response.is_success)
                    async for piece in response.aiter_raw():
                        if not body.add(piece):
                            break
                if response.is_success:
                    return body.data()
                pause = attempts.pause_after_refusal(response, body.data())
            except (self._httpx.LocalProtocolError, self._httpx.InvalidURL, UnicodeEncodeError):
                raise malformed(self.url) from None
            except (self._httpx.TransportError, TimeoutError) as error:
                pause = attempts.pause_after(unreachable(self.url, error))
            await asyncio.sleep(pause)
