"""Clients of the service over HTTP; they need the extra ``remote``, which is imported when they are opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sdk.remote.retries import DEFAULT_RETRIES, Retries

if TYPE_CHECKING:
    from sdk.remote.async_codec import AsyncRemoteCodec
    from sdk.remote.remote_codec import RemoteCodec

__all__ = ["Retries", "connect", "connect_async"]


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
    from sdk.remote.remote_codec import RemoteCodec

    return RemoteCodec(url, token=token, timeout=timeout, retries=retries, concurrency=concurrency)


def connect_async(
    url: str, *, token: str | None = None, timeout: float = 30.0, retries: Retries | int = DEFAULT_RETRIES,
    concurrency: int = 8,
) -> AsyncRemoteCodec:
    """`connect` for asyncio: the same methods as coroutines, with the same arguments and errors."""
    from sdk.remote.async_codec import AsyncRemoteCodec

    return AsyncRemoteCodec(url, token=token, timeout=timeout, retries=retries, concurrency=concurrency)
