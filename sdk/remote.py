"""Clients of the service over HTTP: `RemoteCodec`, and `AsyncRemoteCodec` for asyncio. They need the extra ``remote``.

Names of the interface are here for the service too; docs/service.md describes them.
"""

from __future__ import annotations

import base64
import functools
import io
import itertools
import json
import os
import random
import re
import time
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from PIL import Image

from codec_contract import __version__
from codec_contract.bundle.find import Quality
from codec_contract.errors import EdgegrainError, ImageError, PayloadError, ServiceError, needs_extra, reason
from codec_contract.files import content_of, why_unreadable
from codec_contract.fit import MAX_PHOTO_PIXELS, MAX_PIXELS, Fit, Size
from edge_encoder.preprocessing import WHITE, Colour, PictureSource, check_background, load_picture
from sdk.generated_mark import GeneratedMark, MarkedPicture
from sdk.inputs import PayloadSource, position_in_batch, read_payload_or_scene
from sdk.payload import Payload, Scene

P = ParamSpec("P")
Item = TypeVar("Item")
Result = TypeVar("Result")
Made = TypeVar("Made", Payload, Scene)

PAYLOAD_TYPE, BYTES_TYPE = "application/vnd.edgegrain", "application/octet-stream"
"""Media types of payloads and of any file."""
PROBLEM_PREFIX = "urn:edgegrain:problem:"
"""Beginning of a problem's ``type``, before its kind."""
INVALID_PAYLOAD, INVALID_PICTURE = "invalid-payload", "invalid-picture"
"""Kinds of the problems for `PayloadError` and `ImageError`."""
RETRIED = frozenset({408, 429, 502, 503, 504})
"""HTTP statuses of transient errors. No request of the SDK changes the service, so each of them may be repeated."""
NO_SERVICE = "; is this an edgegrain service?"


@dataclass(frozen=True)
class Retries:
    """Retry policy of a client.

    Attributes:
        attempts: most attempts for a request; 1 disables retries.
        first_pause: seconds before the second attempt, doubled for each further one, if the service names no pause.
        longest_pause: most seconds of such a pause.
        patience: most seconds of all pauses of a request together.
    """

    attempts: int = 5
    first_pause: float = 0.2
    longest_pause: float = 10.0
    patience: float = 60.0

    def pause(self, attempt: int, waited: float, retry_after: float | None) -> float | None:
        """Seconds to wait after failed attempt number ``attempt`` (from 1), after pauses of ``waited`` seconds and if
        the service asked for ``retry_after``; None to give up."""
        pause = min(self.longest_pause, self.first_pause * 2 ** (attempt - 1)) if retry_after is None else retry_after
        if attempt >= self.attempts or waited + pause > self.patience:
            return None
        # Jitter, so that clients that failed together do not retry together.
        return pause * random.uniform(0.5, 1) if retry_after is None else pause + random.uniform(0, self.first_pause)


DEFAULT_RETRIES = Retries()


@dataclass(frozen=True)
class RemoteBundle:
    """A bundle that a service offers; sizes in pixels, ``lr_contract_id`` in hex.

    ``step`` is that of the LR's levels; services up to 0.6 do not name it.
    """

    id: str
    version: str
    codec: str
    domain: str
    hr: int
    lr: int
    lr_contract_id: str
    step: int = 1


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
        self,
        url: str,
        *,
        token: str | None = None,
        timeout: float = 30.0,
        retries: Retries | int = DEFAULT_RETRIES,
        concurrency: int = 8,
    ) -> None:
        """Arguments and errors as `sdk.connect`."""
        with needs_extra("remote", "the remote client needs", ServiceError):
            import httpx

        if not re.fullmatch(r"https?://[^\s@?#]+", url):
            expected = (
                "expected the form http://host:8000, without user name and password; pass a token (token, --token)"
            )
            raise ServiceError(f"{re.sub('//.*@', '//', repr(url))} is not the address of a service, {expected}")
        if token is not None and not re.fullmatch("[!-~]+", token):
            advice = "without spaces and line ends; read it from its file again, without the line end"
            raise ServiceError(f"the token is empty, or has wrong characters, expected printable ASCII {advice}")
        self.url = url = url.rstrip("/")
        self._retries = retries if isinstance(retries, Retries) else Retries(attempts=retries)
        self._concurrency = concurrency
        headers = {"User-Agent": f"edgegrain/{__version__}", **({"Authorization": f"Bearer {token}"} if token else {})}
        seconds = httpx.Timeout(timeout, connect=min(timeout, 5.0))
        limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
        self._open = functools.partial(httpx.Client, base_url=url, timeout=seconds, headers=headers, limits=limits)
        try:
            self._client, self._process = self._open(), os.getpid()
        except (httpx.InvalidURL, ImportError, ValueError, OSError) as error:
            environment = "with the proxies and certificates of the environment"
            raise ServiceError(f"there is no way to {url} {environment}: {reason(error)}") from error

    def compress(
        self,
        picture: PictureSource,
        fit: Fit | None = None,
        *,
        bundle: str | None = None,
        background: Colour = WHITE,
        max_pixels: int = MAX_PHOTO_PIXELS,
        align: bool = True,
        require_face: bool = False,
        quality: Quality | None = None,
        max_bytes: int | None = None,
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
        # Only options that differ from the defaults: services up to 0.6 refuse parameters that they do not know.
        options = {"fit": fit, "bundle": bundle, "quality": quality, "max_bytes": max_bytes}
        face = {"align": None if align else False, "require_face": require_face or None}
        return _payload(self._compress(picture, background, max_pixels, **options, **face), Payload)

    def compress_faces(
        self,
        picture: PictureSource,
        *,
        bundle: str | None = None,
        background: Colour = WHITE,
        max_pixels: int = MAX_PHOTO_PIXELS,
        quality: Quality | None = None,
        max_bytes: int | None = None,
    ) -> list[Payload]:
        """Let the service compress every face of a photograph, as `sdk.compress_faces`."""
        options = {"bundle": bundle, "quality": quality, "max_bytes": max_bytes}
        answer = self._compress(picture, background, max_pixels, faces="all", **options)
        try:
            return [Payload(base64.b64decode(face["payload"])) for face in json.loads(answer)["faces"]]
        except (ValueError, KeyError, TypeError, PayloadError) as error:
            raise ServiceError(f"the service's answer is not a list of payloads{NO_SERVICE}") from error

    def compress_scene(
        self,
        picture: PictureSource,
        *,
        bundle: str | None = None,
        max_bytes: int | None = None,
        background: Colour = WHITE,
        max_pixels: int = MAX_PHOTO_PIXELS,
        quality: Quality | None = None,
    ) -> Scene:
        """Let the service compress all faces of a photograph and its background, as `sdk.compress_scene`."""
        options = {"bundle": bundle, "quality": quality, "max_bytes": max_bytes}
        return _payload(self._compress(picture, background, max_pixels, faces="scene", **options), Scene)

    def compress_batch(
        self,
        pictures: Iterable[PictureSource],
        fit: Fit | None = None,
        *,
        bundle: str | None = None,
        background: Colour = WHITE,
        max_pixels: int = MAX_PHOTO_PIXELS,
        align: bool = True,
        require_face: bool = False,
        quality: Quality | None = None,
        max_bytes: int | None = None,
    ) -> list[Payload]:
        """Compress pictures with several requests at a time, as `sdk.compress`; errors name the position, from 0."""
        read: Any = {"bundle": bundle, "background": background, "max_pixels": max_pixels}
        options: Any = {"align": align, "require_face": require_face, "quality": quality, "max_bytes": max_bytes}
        return self._each("picture", pictures, lambda picture: self.compress(picture, fit, **read, **options))

    def restore(
        self,
        payload: PayloadSource,
        *,
        bundle: str | None = None,
        size: Size = "original",
        max_pixels: int = MAX_PIXELS,
        strength: float | None = None,
        mark: bool = True,
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
        headers = {"Content-Type": PAYLOAD_TYPE, "Accept": "image/png"}
        data = bytes(read_payload_or_scene(payload))
        answer = self._send("POST", "/v1/restore", data, headers, size=size, bundle=bundle, strength=strength)
        try:
            with Image.open(io.BytesIO(answer), formats=["PNG"]) as image:
                if image.width * image.height > max_pixels:
                    sent = (
                        f"the service sent a picture of {image.width} x {image.height} pixels, more than {max_pixels}"
                    )
                    raise ServiceError(f"{sent}; ask for size='native' or raise max_pixels")
                picture = image.convert("RGB")
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise ServiceError(f"the service's answer is not a picture{NO_SERVICE}") from error
        xmp = picture.info.pop("xmp", None)
        return MarkedPicture(picture, xmp or GeneratedMark().xmp()) if mark else picture

    def restore_batch(
        self,
        payloads: Iterable[PayloadSource],
        *,
        bundle: str | None = None,
        size: Size = "original",
        max_pixels: int = MAX_PIXELS,
        strength: float | None = None,
        mark: bool = True,
    ) -> list[Image.Image]:
        """Restore payloads with several requests at a time, as `sdk.restore`; errors name the position, from 0."""
        options: Any = {"bundle": bundle, "size": size, "max_pixels": max_pixels, "strength": strength, "mark": mark}
        return self._each("payload", payloads, lambda payload: self.restore(payload, **options))

    def bundles(self) -> list[RemoteBundle]:
        """List the bundles of the service."""
        names, answer = [field.name for field in fields(RemoteBundle)], self._send("GET", "/v1/bundles")
        try:
            return [RemoteBundle(**{name: item[name] for name in names if name in item}) for item in json.loads(answer)]
        except (ValueError, TypeError) as error:
            raise ServiceError(f"the service's answer is not a list of bundles{NO_SERVICE}") from error

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __enter__(self) -> RemoteCodec:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"RemoteCodec({self.url!r})"

    def _compress(self, picture: PictureSource, background: Colour, max_pixels: int, **options: Any) -> bytes:
        """The answer for a picture: a file is sent unchanged, pixels as a PNG."""
        given = content_of(picture)
        if not isinstance(given, (str, os.PathLike, bytes, bytearray, memoryview)):
            stream = io.BytesIO()
            Image.fromarray(load_picture(given, background=background, max_pixels=max_pixels)).save(stream, "PNG")
            given = stream.getvalue()
        try:
            data = Path(given).read_bytes() if isinstance(given, (str, os.PathLike)) else bytes(given)
        except OSError as error:
            raise ImageError(f"cannot read the picture {given}: {why_unreadable(given, error)}") from error
        headers, colour = {"Content-Type": BYTES_TYPE}, bytes(check_background(background)).hex()
        return self._send("POST", "/v1/compress", data, headers, background=colour, **options)

    def _send(self, method: str, path: str, content: bytes = b"", headers: Any = None, **parameters: Any) -> bytes:
        """The answer's body; transient errors are retried."""
        import httpx

        if self._process != os.getpid():  # a forked process that shared connections could get other answers
            self._client, self._process = self._open(), os.getpid()
        parameters = {name: value for name, value in parameters.items() if value is not None}
        failed, waited = 0, 0.0
        while True:
            retry_after = None
            try:
                answer = self._client.request(method, path, params=parameters, headers=headers, content=content)
            except httpx.TransportError as error:
                why = str(error) or type(error).__name__
                failure: EdgegrainError = ServiceError(f"the service at {self.url} cannot be reached: {why}")
            else:
                if answer.is_success:
                    return answer.content
                failure = _refusal(answer.status_code, answer.content)
                if answer.status_code not in RETRIED:
                    raise failure
                if (seconds := answer.headers.get("retry-after", "")).isdecimal():  # dates would need equal clocks
                    retry_after = float(seconds)
            failed += 1
            pause = self._retries.pause(failed, waited, retry_after)
            if pause is None:
                raise failure
            time.sleep(pause)
            waited += pause

    def _each(self, kind: str, items: Iterable[Item], work: Callable[[Item], Result]) -> list[Result]:
        from concurrent.futures import ThreadPoolExecutor

        def placed(index: int, item: Item) -> Result:
            with position_in_batch(kind, index):
                return work(item)

        items = list(items)
        with ThreadPoolExecutor(self._concurrency) as pool:
            try:
                return list(pool.map(placed, itertools.count(), items))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


def _payload(answer: bytes, kind: type[Made]) -> Made:
    try:
        return kind(answer)
    except PayloadError as error:
        raise ServiceError(f"the service's answer is not a {kind.__name__.lower()}: {error}{NO_SERVICE}") from error


def _refusal(status: int, content: bytes) -> EdgegrainError:
    """The error for an answer with another status than 2xx: the class of the local SDK for the same case."""
    try:
        problem = json.loads(content)
        kind, detail = problem["type"].removeprefix(PROBLEM_PREFIX), problem["detail"]
    except (ValueError, KeyError, TypeError, AttributeError):
        kind, detail = "", f"its answer has no explanation{NO_SERVICE}"
    if kind in (INVALID_PAYLOAD, INVALID_PICTURE):
        return PayloadError(detail) if kind == INVALID_PAYLOAD else ImageError(detail)
    return ServiceError(f"the service refused the request with status {status}: {detail}")


def _in_thread(
    method: Callable[Concatenate[RemoteCodec, P], Result],
) -> Callable[Concatenate[AsyncRemoteCodec, P], Coroutine[Any, Any, Result]]:
    """The same method of `AsyncRemoteCodec`."""

    @functools.wraps(method)
    async def run(self: AsyncRemoteCodec, /, *arguments: P.args, **options: P.kwargs) -> Result:
        import asyncio

        return await asyncio.to_thread(method, self._remote, *arguments, **options)

    return run


class AsyncRemoteCodec:
    """`RemoteCodec` for asyncio: the same methods as coroutines, with the same arguments and errors.

    They run in asyncio's threads, of which `loop.set_default_executor` sets the number; one that is cancelled there
    ends in the background.

    Example:
        async with sdk.connect_async("http://host:8000") as remote:
            pictures = await remote.restore_batch(payloads)
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        timeout: float = 30.0,
        retries: Retries | int = DEFAULT_RETRIES,
        concurrency: int = 8,
    ) -> None:
        """Arguments and errors as `sdk.connect`."""
        self._remote = RemoteCodec(url, token=token, timeout=timeout, retries=retries, concurrency=concurrency)
        self.url = self._remote.url

    compress = _in_thread(RemoteCodec.compress)
    compress_faces = _in_thread(RemoteCodec.compress_faces)
    compress_scene = _in_thread(RemoteCodec.compress_scene)
    compress_batch = _in_thread(RemoteCodec.compress_batch)
    restore = _in_thread(RemoteCodec.restore)
    restore_batch = _in_thread(RemoteCodec.restore_batch)
    bundles = _in_thread(RemoteCodec.bundles)
    close = _in_thread(RemoteCodec.close)

    async def __aenter__(self) -> AsyncRemoteCodec:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncRemoteCodec({self.url!r})"


def connect(
    url: str,
    *,
    token: str | None = None,
    timeout: float = 30.0,
    retries: Retries | int = DEFAULT_RETRIES,
    concurrency: int = 8,
) -> RemoteCodec:
    """Open a client of a service, which compresses and restores as `Codec` does; no request is sent yet.

    Args:
        url: address of the service, for instance ``"http://host:8000"``, without user name and password.
        token: bearer token.
        timeout: seconds that an attempt may wait for the service's next bytes.
        retries: retry policy for transient errors, or the maximum number of attempts.
        concurrency: simultaneous requests of the ``..._batch`` methods, and connections that are kept open.

    Raises:
        ServiceError: the address or the token is invalid, the environment names a proxy or a file of certificates that
            cannot be used, or httpx is missing: ``pip install 'edgegrain[remote]'``.
    """
    return RemoteCodec(url, token=token, timeout=timeout, retries=retries, concurrency=concurrency)


def connect_async(
    url: str,
    *,
    token: str | None = None,
    timeout: float = 30.0,
    retries: Retries | int = DEFAULT_RETRIES,
    concurrency: int = 8,
) -> AsyncRemoteCodec:
    """`connect` for asyncio: the same methods as coroutines, with the same arguments and errors."""
    return AsyncRemoteCodec(url, token=token, timeout=timeout, retries=retries, concurrency=concurrency)
