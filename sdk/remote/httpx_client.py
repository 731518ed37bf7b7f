"""Arguments of httpx's clients and of their requests; both remote codecs use them."""

from __future__ import annotations

import numbers
import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import urlsplit

from codec_contract.errors import ServiceError, reason
from sdk.remote.http_calls import Call
from sdk.remote.retries import MAX_SECONDS

if TYPE_CHECKING:
    import httpx

Client = TypeVar("Client", "httpx.Client", "httpx.AsyncClient")

CONNECT_SECONDS = 5.0
"""Longest wait for a connection."""


def require_httpx() -> Any:
    """The module httpx; a `ServiceError` with the command that installs it if it is missing."""
    try:
        import httpx
    except ModuleNotFoundError as error:
        if error.name != "httpx":
            raise
        raise ServiceError(
            "the remote client needs httpx, which is not installed; install: pip install 'edgegrain[remote]'"
        ) from error
    return httpx


def check_url(url: str) -> str:
    """The service's address without a trailing slash.

    Raises:
        ServiceError: it is not http or https with a host, or holds a user name or password, which messages would show.
    """
    if not isinstance(url, str):
        raise _not_an_address(url)
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname and not parts.query and not parts.fragment
        valid = valid and parts.port != 0  # reading the port checks it
    except ValueError:
        valid = False
    if not valid:
        raise _not_an_address(url)
    if parts.username is not None or parts.password is not None:
        raise ServiceError("the address of a service holds no user name and password; leave them out, and pass a token "
                           "(token, --token)")
    return url.rstrip("/")


def client_options(httpx: Any, url: str, token: str | None, timeout: float, concurrency: int) -> dict[str, Any]:
    """Arguments of an httpx client; `ServiceError` if one of them is invalid."""
    from codec_contract.version import __version__

    try:
        address = httpx.URL(url)
        valid = address.host and address.raw_host.decode().encode("idna")  # as the socket encodes it
    except (httpx.InvalidURL, UnicodeError):
        valid = False
    if not valid:
        raise _not_an_address(url)
    if not isinstance(timeout, numbers.Real) or not 0 < timeout <= MAX_SECONDS:
        raise ServiceError(f"a timeout is a positive number of seconds, at most {MAX_SECONDS}, got {timeout!r}")
    if not isinstance(concurrency, numbers.Integral) or concurrency < 1:
        raise ServiceError(f"concurrency is a number of requests, at least 1, got {concurrency!r}")
    return {
        "base_url": address,
        # Pictures and payloads do not compress, and a compressed answer could expand without limit.
        "headers": {"User-Agent": f"edgegrain/{__version__}", "Accept-Encoding": "identity", **authorization(token)},
        "timeout": httpx.Timeout(timeout, connect=min(timeout, CONNECT_SECONDS)),
        "limits": httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency),
    }


def authorization(token: str | None) -> dict[str, str]:
    """The header with a bearer token; `ServiceError`, without the token, unless that is ASCII without spaces."""
    if token is None:
        return {}
    if not isinstance(token, str) or not re.fullmatch("[!-~]+", token):
        raise ServiceError("the token is empty, no str, or has characters that no token has, expected printable ASCII "
                           "without spaces and line ends; read it from its file again, without the line end")
    return {"Authorization": f"Bearer {token}"}


class OwnClient(Generic[Client]):
    """The httpx client of the current process.

    A forked process opens another one: if it shared connections with its parent, each could get the other's answers.
    The inherited client is dropped without closing it, which may need its parent's event loop and locks.
    """

    def __init__(self, connect: Callable[[], Client]) -> None:
        """Open a client with ``connect``, which is called again in a forked process.

        Raises:
            ServiceError: the environment names a proxy or a file of certificates that httpx cannot use.
        """
        self._connect: Callable[[], Client] = connect
        self._opened: tuple[int, Client] = os.getpid(), self._open()

    def get(self) -> Client:
        """The client; closed if it was closed before the fork."""
        process, client = self._opened
        if process != os.getpid() and not client.is_closed:
            client = self._open()
            self._opened = os.getpid(), client
        return client

    def _open(self) -> Client:
        httpx = require_httpx()
        try:
            return self._connect()
        except httpx.InvalidURL:  # which may quote a part of the proxy's password
            raise _unusable_environment("the address of a proxy is invalid") from None
        except (ImportError, ValueError, OSError) as error:  # a SOCKS proxy, one of an unknown scheme, no certificates
            raise _unusable_environment(reason(error).rstrip(".")) from error


def request_options(call: Call) -> dict[str, Any]:
    """Arguments of an httpx client's ``stream``."""
    return {"method": call.method, "url": call.path, "params": dict(call.parameters), "headers": dict(call.headers),
            "content": call.body}


def malformed(url: str) -> ServiceError:
    """The error for a request that cannot be sent; httpx's own may quote the token."""
    return ServiceError(f"the request to the service at {url} is not valid HTTP")


def closed(url: str) -> ServiceError:
    """The error for a request of a client that was closed."""
    return ServiceError(f"this client of the service at {url} is closed; open another one with sdk.connect")


def unreachable(url: str, error: Exception) -> ServiceError:
    """The error for a request that got no answer."""
    return ServiceError(f"the service at {url} cannot be reached: {error or type(error).__name__}")


def _unusable_environment(found: str) -> ServiceError:
    """The error for proxies and certificates of the environment with which no client can be opened."""
    return ServiceError(f"the service cannot be reached with the proxies and certificates of the environment: {found}; "
                        "change or unset ALL_PROXY, HTTP_PROXY, HTTPS_PROXY, SSL_CERT_FILE")


def _not_an_address(url: str) -> ServiceError:
    """The error for something else than the address of a service."""
    shown = re.sub("//.*@", "//", repr(url))  # without a password
    return ServiceError(f"{shown} is not the address of a service, expected the form http://host:8000")
