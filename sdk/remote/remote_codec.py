"""`RemoteCodec`: a client of the service that compresses and restores as `Codec` does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
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
        self.url = check_url(url)
        self._httpx = require_httpx()
        self._retries = as_retries(retries)
        self._timeout = timeout
        self._concurrency = concurrency
        options = client_options(self._httpx, self.url, token, timeout, concurrency)
        self._client: OwnClient[httpx.Client] = OwnClient(partial(self._httpx.Client, **options))
        self._asking = threading.Lock()
        self._bundles: list[RemoteBundle] | None = None

    def compress(
        self, picture: PictureSource, fit: Fit | None = None, *, bundle: str | None = None, background: Colour = WHITE,
        max_pixels: int = MAX_PHOTO_PIXELS, align: bool = True, require_face: bool = False,
        quality: Quality | None = None, max_bytes: int | None = None,
    ) -> Payload:
        """Let the service compress one picture; a file is sent unchanged. `sdk.compress` compresses locally.

        Args:
            picture, fit, background, align, require_face: as for `sdk.compress`.
            bundle: id of a bundle of the service; None for its first.
            max_pixels: largest picture that is converted here; for files and their bytes the service's limit applies.
            quality, max_bytes: as for `sdk.compress`, among the bundles of the service.

        Raises:
            ImageError: the picture cannot be read, or is refused.
            ServiceError: the service cannot be reached, or refuses the request.
        """
        data = calls.picture_file(picture, background, max_pixels)
        call = calls.compress_call(
            data, background, bundle, quality, max_bytes, fit=fit, align=align, require_face=require_face)
        return calls.read_payload(self._send(call), Payload)

    def compress_faces(
        self, picture: PictureSource, *, bundle: str | None = None, background: Colour = WHITE,
        max_pixels: int = MAX_PHOTO_PIXELS,
    ) -> list[Payload]:
        """Let the service compress every face of a photograph, as `sdk.compress_faces`."""
        data = calls.picture_file(picture, background, max_pixels)
        return calls.read_faces(self._send(calls.compress_call(data, background, bundle, faces="all")))

    def compress_scene(
        self, picture: PictureSource, *, bundle: str | None = None, max_bytes: int | None = None,
        background: Colour = WHITE, max_pixels: int = MAX_PHOTO_PIXELS, quality: Quality | None = None,
    ) -> Scene:
        """Let the service compress all faces of a photograph and its background, as `sdk.compress_scene`."""
        data = calls.picture_file(picture, background, max_pixels)
        call = calls.compress_call(data, background, bundle, quality, max_bytes, faces="scene")
        return calls.read_payload(self._send(call), Scene)

    def compress_batch(
        self, pictures: Iterable[PictureSource], fit: Fit | None = None, *, bundle: str | None = None,
        background: Colour = WHITE, max_pixels: int = MAX_PHOTO_PIXELS, align: bool = True, require_face: bool = False,
        quality: Quality | None = None, max_bytes: int | None = None,
    ) -> list[Payload]:
        """Compress pictures with several requests at a time; in order, errors name the position, counted from 0."""
        return self._each("picture", pictures, lambda picture: self.compress(
            picture, fit, bundle=bundle, background=background, max_pixels=max_pixels, align=align,
            require_face=require_face, quality=quality, max_bytes=max_bytes))

    def restore(
        self, payload: RestoreSource, *, bundle: str | None = None, size: Size = "original",
        max_pixels: int = MAX_PIXELS, strength: float | None = None, mark: bool = True,
    ) -> Image.Image:
        """Let the service restore one payload, scene or bare LR.

        Args:
            payload: as for `sdk.restore`. The levels of a bare LR are rounded to the bundle's step.
            bundle: id of a bundle of the service; None for the one the payload names.
            size: as for `sdk.restore`.
            max_pixels: largest picture that is accepted from the service, which has a limit of its own.
            strength: as for `sdk.restore`, for bundles with that control.
            mark: as for `sdk.restore`; the service's mark is taken over if it writes one.

        Raises:
            PayloadError: the payload is damaged, or of a bundle that the service does not have.
            ImageError: the LR fits no bundle, or the picture exceeds the service's limit.
            ServiceError: the service cannot be reached, or refuses the request.
        """
        source = read_restore_source(payload)
        data = source if isinstance(source, bytes) else calls.payload_of_lr(source, self._known(), bundle)
        call = calls.restore_call(data, size, bundle, strength, max_pixels)
        return calls.read_picture(self._send(call), max_pixels, mark)

    def restore_batch(
        self, payloads: Iterable[RestoreSource], *, bundle: str | None = None, size: Size = "original",
        max_pixels: int = MAX_PIXELS, strength: float | Sequence[float | None] | None = None, mark: bool = True,
    ) -> list[Image.Image]:
        """Restore payloads with several requests at a time; in order, errors name the position, counted from 0.

        ``strength`` is one for all payloads, or one for each.
        """
        return self._each("payload", with_strengths(payloads, strength), lambda item: self.restore(
            item[0], bundle=bundle, size=size, max_pixels=max_pixels, strength=item[1], mark=mark))

    def bundles(self) -> list[RemoteBundle]:
        """List the bundles of the service."""
        return calls.read_bundles(self._send(calls.bundles_call()))

    def close(self) -> None:
        """Close the connections."""
        self._client.get().close()

    def __enter__(self) -> RemoteCodec:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"RemoteCodec({self.url!r})"

    def _known(self) -> list[RemoteBundle]:
        with self._asking:
            if self._bundles is None:
                self._bundles = self.bundles()
            return self._bundles

    def _each(self, kind: str, items: Iterable[Item], work: Callable[[Item], Result]) -> list[Result]:
        def placed(numbered: tuple[int, Item]) -> Result:
            with position_in_batch(kind, numbered[0]):
                return work(numbered[1])

        with ThreadPoolExecutor(self._concurrency) as pool:
            futures = []
            try:
                for numbered in enumerate(items):  # which may raise an error of the caller's
                    futures.append(pool.submit(placed, numbered))
                return [future.result() for future in futures]
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _send(self, call: Call) -> bytes:
        """The answer's body; transient errors are retried."""
        attempts = Attempts(self._retries)
        while True:
            client = self._client.get()
            if client.is_closed:
                raise closed(self.url)
            try:
                with client.stream(**request_options(call)) as response:
                    body = AnswerBody(call.largest_answer, self._timeout, refused=not response.is_success)
                    for piece in response.iter_raw():
                        if not body.add(piece):
                            break
                if response.is_success:
                    return body.data()
                pause = attempts.pause_after_refusal(response, body.data())
            except (self._httpx.LocalProtocolError, self._httpx.InvalidURL, UnicodeEncodeError):
                raise malformed(self.url) from None
            except (self._httpx.TransportError, TimeoutError) as error:
                pause = attempts.pause_after(unreachable(self.url, error))
            time.sleep(pause)
