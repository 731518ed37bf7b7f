"""Open connections of each client address."""

from __future__ import annotations

import ipaddress
from collections import Counter

from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

IPV6_PREFIX = 64
"""Bits of an IPv6 address that count: a network of 2^64 addresses usually belongs to one client."""


class ConnectionCount:
    """Counts connections by address; those of trusted proxies, which have many clients, are not counted."""

    def __init__(self, trusted_proxies: str) -> None:
        """Count all addresses except ``trusted_proxies``, addresses and networks separated by commas, or ``*``."""
        self._trusted = ProxyHeadersMiddleware(_no_application, trusted_proxies).trusted_hosts
        self._open: Counter[str] = Counter()

    def add(self, host: str | None) -> int:
        """Count a connection and return the number of the address; 0 for one that is not counted."""
        if host is None or host in self._trusted:
            return 0
        key = client_network(host)
        self._open[key] += 1
        return self._open[key]

    def remove(self, host: str | None) -> None:
        """Remove a connection that was added."""
        if host is None or host in self._trusted:
            return
        key = client_network(host)
        self._open[key] -= 1
        if self._open[key] <= 0:
            del self._open[key]

    def __len__(self) -> int:
        """Number of addresses with open connections."""
        return len(self._open)


def client_network(host: str) -> str:
    """The addresses that count as one client: the network of an IPv6 address, an IPv4 address, or any other text."""
    try:
        address = ipaddress.IPv6Address(host)
    except ValueError:  # IPv4, or a proxy's name for a client
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(address), IPV6_PREFIX), strict=False))


async def _no_application(scope: object, receive: object, send: object) -> None:
    """Never called: only the middleware's table of trusted hosts is used."""
