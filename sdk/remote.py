"""Clients of the service over HTTP: `RemoteCodec`, and `AsyncRemoteCodec` for asyncio. They need the extra ``remote``.

The verbs are written once, as coroutines of `AsyncRemoteCodec`. `RemoteCodec` runs the same coroutines without an event
loop: what they await is blocking there.
"""

from __future__ import annotations

import functools
import numbers
import os
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from PIL import Image

from codec_contract.bundle.find import Quality
from codec_contract.errors import EdgegrainError, ServiceError, reason
from codec_contract.fit import MAX_PHOTO_PIXELS, MAX_PIXELS, Fit, Size
from edge_encoder.preprocessing import WHITE, Colour, PictureSource
from sdk import remote_calls as calls
from sdk.inputs import PayloadSource, position_in_batch, read_payload_or_scene
from sdk.payload import Payload, Scene
from sdk.remote_calls import DEFAULT_RETRIES, RETRIED, Call, RemoteBundle, Retries

if TYPE_CHECKING:
    import httpx

P = ParamSpec("P")
Item = TypeVar("Item")
Result = TypeVar("Result")


class AsyncRemoteCodec:
    """`RemoteCodec` for asyncio: the same methods as coroutines, with the same arguments and errors.

    Example:
        async with sdk.connect_async("http://host:8000") as remote:
            pictures = await remote.restore_batch(payloads)
    """

    _client_class = "AsyncClient"

    def __init__(
        self, url: str, *, token: str | None = None, timeout: float = 30.0, retries: Retries | int = DEFAULT_RETRIES,
        concurrency: int = 8,
    ) -> None:
        """Arguments and errors as `sdk.connect`."""
        if not isinstance(retries, (Retries, numbers.Integral)):
            raise ServiceError(f"retries is a number of attempts or an sdk.Retries, got {retries!r}")
        self._options = calls.client_options(url, token, timeout, concurrency)
        self.url, self._timeout, self._concurrency = url.rstrip("/"), timeout, concurrency
        self._retries = retries if isinstance(retries, Retries) else Retries(attempts=retries)
        self._arguments: dict[str, Any] = {
            "token": token, "timeout": timeout, "retries": retries, "concurrency": concurrency}
        self._opened = os.getpid(), self._open()

    def __reduce__(self) -> tuple[Callable[[], AsyncRemoteCodec], tuple[()]]:
        """From the same arguments, the token too, with connections of its own."""
        return functools.partial(type(self), self.url, **self._arguments), ()

    async def compress(
        self, picture: PictureSource, fit: Fit | None = None, *, bundle: str | None = None, background: Colour = WHITE,
        max_pixels: int = MAX_PHOTO_PIXELS, align: bool = True, require_face: bool = False,
        quality: Quality | None = None, max_bytes: int | None = None,
    ) -> Payload:
        """Let the service compress one picture, as `sdk.compress`; a file is sent unchanged.

        Args:
            picture, fit, background, align, require_face: as for `sdk.compress`.
            bundle: id of a bundle of the service; None for its first.
            max_pixels: largest picture that is converted here; for files and their bytes the service's limit applies.
            quality, max_bytes: as for `sdk.compress`, among the bundles of the service.

        Raises:
            ImageError: the picture cannot be read, or is refused.
            ServiceError: the service cannot be reached, or refuses the request.
        """
        answer = await self._compress(picture, background, max_pixels, bundle, quality, max_bytes, fit=fit, align=align,
                                      require_face=require_face)
        return calls.read_payload(answer, Payload)

    async def compress_faces(
        self, picture: PictureSource, *, bundle: str | None = None, background: Colour = WHITE,
        max_pixels: int = MAX_PHOTO_PIXELS,
    ) -> list[Payload]:
        """Let the service compress every face of a photograph, as `sdk.compress_faces`."""
        return calls.read_faces(await self._compress(picture, background, max_pixels, bundle, faces="all"))

    async def compress_scene(
        self, picture: PictureSource, *, bundle: str | None = None, max_bytes: int | None = None,
        background: Colour = WHITE, max_pixels: int = MAX_PHOTO_PIXELS, quality: Quality | None = None,
    ) -> Scene:
        """Let the service compress all faces of a photograph and its background, as `sdk.compress_scene`."""
        answer = await self._compress(picture, background, max_pixels, bundle, quality, max_bytes, faces="scene")
        return calls.read_payload(answer, Scene)

    async def compress_batch(
        self, pictures: Iterable[PictureSource], fit: Fit | None = None, *, bundle: str | None = None,
        background: Colour = WHITE, max_pixels: int = MAX_PHOTO_PIXELS, align: bool = True, require_face: bool = False,
        quality: Quality | None = None, max_bytes: int | None = None,
    ) -> list[Payload]:
        """Compress pictures with several requests at a time, as `sdk.compress`; errors name the position, from 0.

        An error's ``results`` are the payloads that there are, with None for the others.
        """
        return await self._each("picture", pictures, lambda picture: self.compress(
            picture, fit, bundle=bundle, background=background, max_pixels=max_pixels, align=align,
            require_face=require_face, quality=quality, max_bytes=max_bytes))

    async def restore(
        self, payload: PayloadSource, *, bundle: str | None = None, size: Size = "original",
        max_pixels: int = MAX_PIXELS, strength: float | None = None, mark: bool = True,
    ) -> Image.Image:
        """Let the service restore one payload or scene, as `sdk.restore`.

        Args:
            payload: as for `sdk.restore`; not a bare LR.
            bundle: id of a bundle of the service; None for the one the payload names.
            size: as for `sdk.restore`.
            max_pixels: largest picture that is accepted from the service, which has a limit of its own.
            strength: as for `sdk.restore`, for bundles with that control.
            mark: as for `sdk.restore`; the service's mark is taken over if it writes one.

        Raises:
            PayloadError: the payload is damaged, or of a bundle that the service does not have.
            ImageError: the picture exceeds the service's limit.
            ServiceError: the service cannot be reached, or refuses the request.
        """
        data = await self._in_thread(read_payload_or_scene, payload)
        answer = await self._send(calls.restore_call(data, size, bundle, strength, max_pixels))
        return await self._in_thread(calls.read_picture, answer, max_pixels, mark)

    async def restore_batch(
        self, payloads: Iterable[PayloadSource], *, bundle: str | None = None, size: Size = "original",
        max_pixels: int = MAX_PIXELS, strength: float | None = None, mark: bool = True,
    ) -> list[Image.Image]:
        """Restore payloads with several requests at a time, as `sdk.restore`; errors name the position, from 0.

        An error's ``results`` are the pictures that were restored, with None for the others.
        """
        return await self._each("payload", payloads, lambda payload: self.restore(
            payload, bundle=bundle, size=size, max_pixels=max_pixels, strength=strength, mark=mark))

    async def bundles(self) -> list[RemoteBundle]:
        """List the bundles of the service."""
        return calls.read_bundles(await self._send(Call("GET", "/v1/bundles", calls.MAX_LIST_BYTES)))

    async def close(self) -> None:
        """Close the connections."""
        await self._client().aclose()

    async def __aenter__(self) -> AsyncRemoteCodec:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncRemoteCodec({self.url!r})"

    async def _compress(self, picture: PictureSource, background: Colour, max_pixels: int, bundle: str | None,
                        quality: str | None = None, max_bytes: int | None = None, **options: Any) -> bytes:
        data = await self._in_thread(calls.picture_file, picture, background, max_pixels)
        return await self._send(calls.compress_call(data, background, bundle, quality, max_bytes, **options))

    async def _send(self, call: Call) -> bytes:
        """The answer's body; transient errors are retried."""
        import httpx

        failed, waited = 0, 0.0
        while True:
            retry_after = None
            try:
                response, body = await self._receive(call)
            except (httpx.LocalProtocolError, httpx.InvalidURL, UnicodeEncodeError):  # httpx may quote the token
                raise ServiceError(f"the request to the service at {self.url} is not valid HTTP") from None
            except (httpx.TransportError, TimeoutError) as error:
                failure: EdgegrainError = ServiceError(
                    f"the service at {self.url} cannot be reached: {str(error).rstrip('.') or type(error).__name__}")
            else:
                if response.is_success:
                    return body
                failure = calls.read_refusal(response.status_code, body)
                if response.status_code not in RETRIED:
                    raise failure
                retry_after = calls.parse_retry_after(response.headers.get("retry-after"))
            failed += 1
            pause = self._retries.pause(failed, waited, retry_after)
            if pause is None:
                raise failure
            waited += pause
            await self._sleep(pause)

    def _client(self) -> Any:
        """The httpx client of the current process: a forked one that shared connections could get other answers.

        The inherited client is dropped without closing it, which may need its parent's event loop and locks.
        """
        process, client = self._opened
        if process != os.getpid() and not client.is_closed:
            client = self._open()
            self._opened = os.getpid(), client
        return client

    def _stream(self, call: Call) -> Any:
        client = self._client()
        if client.is_closed:
            raise ServiceError(f"this client of the service at {self.url} is closed; open another one with sdk.connect")
        return client.stream(call.method, call.url, params=call.params, headers=call.headers, content=call.content)

    def _open(self) -> Any:
        import httpx

        try:
            return getattr(httpx, self._client_class)(**self._options)
        except httpx.InvalidURL:  # which may quote a part of the proxy's password
            found, cause = "the address of a proxy is invalid", None
        except (ImportError, ValueError, OSError) as error:  # a SOCKS proxy, one of an unknown scheme, no certificates
            found, cause = reason(error).rstrip("."), error
        raise ServiceError(f"the service cannot be reached with the proxies and certificates of the environment: "
                           f"{found}; change or unset ALL_PROXY, HTTP_PROXY, HTTPS_PROXY, SSL_CERT_FILE") from cause

    # `_Blocking` overrides the following, and `close`.

    async def _receive(self, call: Call) -> tuple[httpx.Response, bytes]:
        """One attempt."""
        async with self._stream(call) as response:
            body = calls.Body(response, call.largest_answer, self._timeout)
            async for piece in response.aiter_raw():
                if not body.add(piece):
                    break
        return response, b"".join(body.pieces)

    async def _sleep(self, seconds: float) -> None:
        import asyncio

        await asyncio.sleep(seconds)

    async def _in_thread(self, function: Callable[P, Result], *arguments: P.args, **options: P.kwargs) -> Result:
        import asyncio

        return await asyncio.to_thread(function, *arguments, **options)

    async def _each(self, kind: str, items: Iterable[Item], work: Callable[[Item], Awaitable[Result]]) -> list[Result]:
        import asyncio

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
        except EdgegrainError as error:
            error.results = [_result(task) for task in tasks]
            raise
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


class _Blocking(AsyncRemoteCodec):
    """An `AsyncRemoteCodec` whose coroutines never suspend."""

    _client_class = "Client"

    async def close(self) -> None:
        self._client().close()

    async def _receive(self, call: Call) -> tuple[httpx.Response, bytes]:
        with self._stream(call) as response:
            body = calls.Body(response, call.largest_answer, self._timeout)
            for piece in response.iter_raw():
                if not body.add(piece):
                    break
        return response, b"".join(body.pieces)

    async def _sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    async def _in_thread(self, function: Callable[P, Result], *arguments: P.args, **options: P.kwargs) -> Result:
        return function(*arguments, **options)

    async def _each(self, kind: str, items: Iterable[Item], work: Callable[[Item], Awaitable[Result]]) -> list[Result]:
        from concurrent.futures import ThreadPoolExecutor

        def placed(index: int, item: Item) -> Result:
            with position_in_batch(kind, index):
                return _finish(work(item))

        futures: list[Any] = []
        with ThreadPoolExecutor(self._concurrency) as pool:
            try:
                for numbered in enumerate(items):  # which may raise an error of the caller's
                    futures.append(pool.submit(placed, *numbered))
                return [future.result() for future in futures]
            except BaseException as error:
                pool.shutdown(wait=True, cancel_futures=True)
                if isinstance(error, EdgegrainError):
                    error.results = [_result(future) for future in futures]
                raise


def _result(done: Any) -> Any:
    """The result of a task or future; None if it has none."""
    return done.result() if done.done() and not done.cancelled() and done.exception() is None else None


def _finish(work: Awaitable[Result]) -> Result:
    """The result of a coroutine of `_Blocking`."""
    try:
        next(work.__await__())
    except StopIteration as done:
        return done.value
    raise RuntimeError("a coroutine of a blocking client was suspended")


def _blocking(
    method: Callable[Concatenate[AsyncRemoteCodec, P], Coroutine[Any, Any, Result]]
) -> Callable[Concatenate[RemoteCodec, P], Result]:
    """The same method of `RemoteCodec`."""
    @functools.wraps(method)
    def run(self: RemoteCodec, /, *arguments: P.args, **options: P.kwargs) -> Result:
        return _finish(getattr(self._remote, method.__name__)(*arguments, **options))

    return run


class RemoteCodec:
    """`compress`, `restore` and their batches over HTTP.

    Connections are reused and shared by threads; close it when done.

    Transient errors (no connection, a full queue, a worker that died) are retried after the service's ``Retry-After``
    if given, otherwise with exponential backoff. `PayloadError` and `ImageError` have the same meaning as in `Codec`,
    all other errors are `ServiceError`.

    Example:
        with sdk.connect("http://host:8000") as remote:
            picture = remote.restore("me.grain")
    """

    def __init__(
        self, url: str, *, token: str | None = None, timeout: float = 30.0, retries: Retries | int = DEFAULT_RETRIES,
        concurrency: int = 8,
    ) -> None:
        """Arguments and errors as `sdk.connect`."""
        self._remote = _Blocking(url, token=token, timeout=timeout, retries=retries, concurrency=concurrency)
        self.url = self._remote.url

    def __reduce__(self) -> tuple[Callable[[], RemoteCodec], tuple[()]]:
        """As of `AsyncRemoteCodec`."""
        return functools.partial(type(self), self.url, **self._remote._arguments), ()

    compress = _blocking(AsyncRemoteCodec.compress)
    compress_faces = _blocking(AsyncRemoteCodec.compress_faces)
    compress_scene = _blocking(AsyncRemoteCodec.compress_scene)
    compress_batch = _blocking(AsyncRemoteCodec.compress_batch)
    restore = _blocking(AsyncRemoteCodec.restore)
    restore_batch = _blocking(AsyncRemoteCodec.restore_batch)
    bundles = _blocking(AsyncRemoteCodec.bundles)
    close = _blocking(AsyncRemoteCodec.close)

    def __enter__(self) -> RemoteCodec:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"RemoteCodec({self.url!r})"


def connect(
    url: str, *, token: str | None = None, timeout: float = 30.0, retries: Retries | int = DEFAULT_RETRIES,
    concurrency: int = 8,
) -> RemoteCodec:
    """Open a client of a service, which compresses and restores as `Codec` does; no request is sent yet.

    Args:
        url: address of the service, for instance ``"http://host:8000"``, without user name and password.
        token: bearer token.
        timeout: seconds that an attempt may wait for the service's next bytes, at most 1,000,000. An answer that takes
            longer altogether must arrive at 8 KiB per second or more.
        retries: retry policy for transient errors, or the maximum number of attempts.
        concurrency: simultaneous requests of the ``..._batch`` methods, and connections that are kept open.

    Raises:
        ServiceError: an argument is invalid, the environment names a proxy or a file of certificates that cannot be
            used, or httpx is missing: ``pip install 'edgegrain[remote]'``.
    """
    return RemoteCodec(url, token=token, timeout=timeout, retries=retries, concurrency=concurrency)


def connect_async(
    url: str, *, token: str | None = None, timeout: float = 30.0, retries: Retries | int = DEFAULT_RETRIES,
    concurrency: int = 8,
) -> AsyncRemoteCodec:
    """`connect` for asyncio: the same methods as coroutines, with the same arguments and errors."""
    return AsyncRemoteCodec(url, token=token, timeout=timeout, retries=retries, concurrency=concurrency)
