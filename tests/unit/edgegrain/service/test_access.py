"""Tokens and rate limits."""

from __future__ import annotations

import hmac
from contextlib import nullcontext
from typing import Any

import pytest
from starlette.requests import Request

from edgegrain.service.problems import Problem
from edgegrain.service.state import Access

TOKENS = ["first-token-of-16", "second-token-of-16"]


def request(authorization: str | None = None, host: str = "10.0.0.1") -> Request:
    headers = [] if authorization is None else [(b"authorization", authorization.encode("latin-1"))]
    return Request({"type": "http", "headers": headers, "client": (host, 1)})


@pytest.mark.parametrize("header", [f"Bearer {TOKENS[0]}", f"bearer {TOKENS[1]}", f"Bearer  {TOKENS[1]} "])
def test_any_of_the_tokens(header: str) -> None:
    Access(TOKENS).check_token(request(header))
    Access().check_token(request())  # without tokens anybody may


@pytest.mark.parametrize("header", [
    None, "", "Bearer", "Bearer ", f"Basic {TOKENS[0]}", TOKENS[0], f"Bearer {TOKENS[0]}x", f"Bearer {TOKENS[0][:-1]}",
    "Bearer \xff\xfe", f"Bearer {TOKENS[0]} {TOKENS[1]}"])
def test_others_are_refused(header: str | None) -> None:
    with pytest.raises(Problem) as caught:
        Access(TOKENS).check_token(request(header))
    assert caught.value.status == 401 and caught.value.headers["WWW-Authenticate"].startswith("Bearer")
    assert TOKENS[0] not in caught.value.detail


def test_every_token_is_compared_by_digest_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[Any, Any]] = []
    compare = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append((a, b)) or compare(a, b))
    Access(TOKENS).check_token(request(f"Bearer {TOKENS[0]}"))
    assert len(compared) == 2 and all(len(a) == len(b) == 32 for a, b in compared)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def refused(access: Access, *arguments: Any, status: int = 429, **options: Any) -> Problem:
    """The refusal of a charge."""
    with pytest.raises(Problem) as caught:
        access.charge(*arguments, **options)
    assert caught.value.status == status
    return caught.value


def test_rate() -> None:
    clock = Clock()
    access = Access(rate=2, burst=3, clock=clock)
    access.charge(request(), 3)
    assert refused(access, request()).headers["Retry-After"] == "1"
    access.charge(request(host="10.0.0.2"), 3)  # another client
    clock.now = 0.5
    access.charge(request())
    refused(access, request())
    clock.now = 100
    access.charge(request(), 3)  # no more than a burst is saved up
    assert refused(access, request(), 3).headers["Retry-After"] == "2"


def test_more_than_a_burst_is_refused_for_good() -> None:
    access = Access(rate=1, burst=3, clock=Clock())
    access.charge(request())
    problem = refused(access, request(), 4, charged=1, status=413)
    assert "3 pictures at once, not 4" in problem.detail and not problem.headers
    access.charge(request(), 3, charged=1)


def test_a_client_that_waits_as_told_is_served() -> None:
    clock = Clock()
    access = Access(rate=1, burst=20, clock=clock)
    for _ in range(3):  # a form of 20: one picture is charged before the body, the rest after it
        access.charge(request())
        access.charge(request(), 20, charged=1)
        access.charge(request(), 0)
        refused(access, request())
        clock.now += 1
        access.charge(request())
        clock.now += int(refused(access, request(), 20, charged=1).headers["Retry-After"])


def test_rate_goes_by_token_where_there_are_any() -> None:
    access = Access(TOKENS, rate=1, burst=1, clock=Clock())
    access.charge(request(f"Bearer {TOKENS[0]}", "10.0.0.1"))
    access.charge(request(f"Bearer {TOKENS[1]}", "10.0.0.1"))
    refused(access, request(f"Bearer {TOKENS[0]}", "10.0.0.2"))


@pytest.mark.parametrize(("one", "other", "same"), [
    ("2001:db8::1", "2001:db8:0:0:ffff::2", True), ("2001:db8::1", "2001:db8:0:1::1", False),
    ("10.0.0.1", "10.0.0.2", False), ("::ffff:10.0.0.1", "10.0.0.1", True),
    ("::ffff:10.0.0.1", "::ffff:10.0.0.2", False), ("unknown", "unknown", True), ("a:1", "a:2", False)])
def test_rate_goes_by_network_of_ipv6(one: str, other: str, same: bool) -> None:
    access = Access(rate=1, burst=1, clock=Clock())
    access.charge(request(host=one))
    with pytest.raises(Problem) if same else nullcontext():
        access.charge(request(host=other))


def test_remembers_a_bounded_number_of_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgegrain.service.state.MAX_CLIENTS", 2)
    access = Access(rate=1, burst=1, clock=Clock())
    for number in range(3):
        access.charge(request(host=f"10.0.0.{number}"))
    access.charge(request(host="10.0.0.0"))  # forgotten, so it may again
    refused(access, request(host="10.0.0.2"))
