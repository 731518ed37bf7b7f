"""Addresses of services that are no services, unusable proxies, and one client for each process."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import httpx
import pytest

import sdk
from codec_contract.errors import ServiceError
from sdk.remote.httpx_client import OwnClient, check_url


@pytest.mark.parametrize("url", ["http://[::1", "http://host:abc", "http://host:70000", "ftp://host", "http://",
                                 "http://host?x=1", "host:8000", 5, None, b"http://host"])
def test_an_address_must_be_one(url: str) -> None:
    with pytest.raises(ServiceError, match="expected the form"):
        check_url(url)


@pytest.mark.parametrize("url", ["http://user:s3cret@host", "http://s3cret@host:8000/x", "http://user:s3cret@host:abc"])
def test_passwords_are_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ServiceError, match="holds no user name and password|expected the form") as caught:
        check_url(url)
    assert "s3cret" not in str(caught.value)


def test_addresses_lose_their_last_slash() -> None:
    assert check_url("https://[::1]:8443/edgegrain/") == "https://[::1]:8443/edgegrain"


@pytest.mark.parametrize("kind", ["Client", "AsyncClient"])
def test_a_forked_process_has_a_client_of_its_own(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    own = OwnClient(getattr(httpx, kind))
    inherited = own.get()
    assert own.get() is inherited
    parent = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: parent + 1)
    opened = own.get()
    assert opened is own.get() and opened is not inherited and not inherited.is_closed


def test_a_closed_client_stays_closed_after_a_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    own = OwnClient(httpx.Client)
    own.get().close()
    parent = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: parent + 1)
    assert own.get().is_closed


@pytest.mark.parametrize("connect", [sdk.connect, sdk.connect_async])
@pytest.mark.parametrize(("variable", "value", "found"), [
    ("ALL_PROXY", "socks5://localhost:1080", "SOCKS proxy"),
    ("ALL_PROXY", "gopher://localhost:70", "Unknown scheme"),
    ("HTTPS_PROXY", "http://user:s3cret/@localhost:8080", "the address of a proxy is invalid"),
    ("SSL_CERT_FILE", "/nowhere/certificates.pem", "No such file"),
    ("SSL_CERT_FILE", os.devnull, "no certificate"),
])
def test_unusable_proxies_and_certificates(
    connect: Callable[[str], object], variable: str, value: str, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "socksio", None)  # as if it were not installed
    for name in ("ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv(variable, value)
    with pytest.raises(ServiceError, match=f"of the environment: .*{found}.*; change or unset .*{variable}") as caught:
        connect("http://localhost:1")
    assert "s3cret" not in str(caught.value) and "\n" not in str(caught.value)
