"""`connect` and `connect_async`: the verbs of `Codec`, done by a service. What they need is imported when called."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sdk.remote.retries import DEFAULT_RETRIES, Retries

if TYPE_CHECKING:
    from sdk.remote.async_codec import AsyncRemoteCodec
    from sdk.remote.remote_codec import RemoteCodec


def connect(
    url: str, *, token: str | None = None, timeout: float = 30.0, retries: Retries | int = DEFAULT_RETRIES,
    concurrency: int = 8,
) -> RemoteCodec:
    """A service as a codec; nothing is sent yet.

    Args:
        url: the service's address, for instance ``"http://host:8000"``.
        token: sent as bearer token.
        timeout: seconds that an attempt may wait for the service's next bytes.
        retries: how persistently passing trouble is met; a number is that of attempts.
        concurrency: requests that the ``..._batch`` methods keep under way, and connections that are kept open.

    Raises:
        ServiceError: the address is none, or httpx is missing: ``pip install 'edgegrain[remote]'``.
    """
    from sdk.remote.remote_codec import RemoteCodec

    return RemoteCodec(url, token=token, timeout=timeout, retries=retries, concurrency=concurrency)


def connect_async(
    url: str, *, token: str | None = None, timeout: float = 30.0, retries: Retries | int = DEFAULT_RETRIES,
    concurrency: int = 8,
) -> AsyncRemoteCodec:
    """`connect` for asyncio: the same verbs, to be awaited; arguments and errors are the same."""
    from sdk.remote.async_codec import AsyncRemoteCodec

    return AsyncRemoteCodec(url, token=token, timeout=timeout, retries=retries, concurrency=concurrency)
