"""Access control: bearer tokens, and a rate limit (token bucket) per client."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

from starlette.requests import Request

from edgegrain.service.problems import Problem, retry_later

MAX_CLIENTS = 10_000
"""Most clients whose rate is tracked; beyond that, the one that was idle longest is dropped."""

IPV6_PREFIX = 64
"""Bits of an IPv6 address that count: a network of 2^64 addresses usually belongs to one client."""


class Access:
    """Accepted tokens and the rate limit of their holders."""

    def __init__(
        self, tokens: Sequence[str] = (), *, rate: float = 0, burst: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Accept ``tokens`` (any request if empty); ``rate`` pictures a second and client, 0 for no limit."""
        self._digests = [_digest(token) for token in tokens]
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # client -> pictures left, at that time

    def check_token(self, request: Request) -> None:
        """Raise `Problem` 401 unless the request has one of the tokens."""
        if not self._digests:
            return
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        given = _digest(token.strip())
        # Every token is compared, each in constant time, so the duration reveals nothing about them.
        matches = [hmac.compare_digest(given, known) for known in self._digests]
        if scheme.lower() != "bearer" or not any(matches):
            raise Problem("unauthorized", "send the header 'Authorization: Bearer TOKEN' with a valid token",
                          {"WWW-Authenticate": 'Bearer realm="edgegrain"'})

    def charge(self, request: Request, pictures: int = 1, charged: int = 0) -> None:
        """Charge a client for the pictures of a request, of which ``charged`` were charged before.

        If they exceed the client's rate, none is charged, and the pictures charged before are refunded.
        """
        if not self._rate:
            return
        if pictures > self._burst:
            raise Problem("too-large", f"a client may send {self._burst} pictures at once, not {pictures}; send "
                          "several requests")
        pictures -= charged
        client, now = self._client(request), self._clock()
        left, then = self._buckets.pop(client, (float(self._burst), now))
        left = min(self._burst, left + (now - then) * self._rate)
        missing = pictures - left
        self._buckets[client] = (left + charged if missing > 0 else left - pictures, now)
        if len(self._buckets) > MAX_CLIENTS:
            self._buckets.popitem(last=False)
        if missing > 0:
            raise retry_later("rate-limited", f"a client may send {self._rate:g} pictures a second",
                              math.ceil(missing / self._rate))

    def _client(self, request: Request) -> str:
        if self._digests:  # the token was checked before
            return _digest(request.headers["authorization"].partition(" ")[2].strip()).hex()
        return client_network(request.client.host) if request.client else ""


def client_network(host: str) -> str:
    """The addresses that count as one client: the network of an IPv6 address, an IPv4 address, or any other text."""
    try:
        address = ipaddress.IPv6Address(host)
    except ValueError:  # IPv4, or a proxy's name for a client
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(address), IPV6_PREFIX), strict=False))


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
