"""Tokens."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import Any

import pytest
from starlette.requests import Request

from edgegrain.service.problems import Problem
from edgegrain.service.state import Tokens

TOKENS = ["first-token-of-16", "second-token-of-16"]


async def check(authorization: str | None, tokens: Sequence[str] = TOKENS) -> None:
    headers = [] if authorization is None else [(b"authorization", authorization.encode("latin-1"))]
    await Tokens(tokens).check(Request({"type": "http", "headers": headers}))


@pytest.mark.parametrize("header", [f"Bearer {TOKENS[0]}", f"bearer {TOKENS[1]}", f"Bearer  {TOKENS[1]} "])
async def test_any_of_the_tokens(header: str) -> None:
    await check(header)
    await check(None, ())  # without tokens anybody may


@pytest.mark.parametrize("header", [
    None, "", "Bearer", "Bearer ", f"Basic {TOKENS[0]}", TOKENS[0], f"Bearer {TOKENS[0]}x", f"Bearer {TOKENS[0][:-1]}",
    "Bearer \xff\xfe", f"Bearer {TOKENS[0]} {TOKENS[1]}"])
async def test_others_are_refused(header: str | None) -> None:
    with pytest.raises(Problem) as caught:
        await check(header)
    assert caught.value.status == 401 and caught.value.headers["WWW-Authenticate"].startswith("Bearer")
    assert TOKENS[0] not in caught.value.detail


async def test_every_token_is_compared_by_digest_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[Any, Any]] = []
    compare = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append((a, b)) or compare(a, b))
    await check(f"Bearer {TOKENS[0]}")
    assert len(compared) == 2 and all(len(a) == len(b) == 32 for a, b in compared)
