"""Addresses of services that are no services."""

from __future__ import annotations

import pytest

from codec_contract.errors import ServiceError
from sdk.remote.httpx_client import check_url


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
