"""Pauses between attempts, and the header ``Retry-After``."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

import sdk
from sdk.remote.retries import parse_retry_after


def test_pauses_grow_up_to_a_limit() -> None:
    retries = sdk.Retries(attempts=10, first_pause=1, longest_pause=4, patience=1000)
    for attempt, most in ((1, 1), (2, 2), (3, 4), (4, 4), (9, 4)):
        pauses = [retries.pause(attempt, 0, None) for _ in range(50)]
        assert all(pause is not None and most / 2 <= pause <= most for pause in pauses)
        assert len(set(pauses)) > 1  # clients do not come back together
    assert retries.pause(10, 0, None) is None


def test_never_earlier_than_asked_for() -> None:
    retries = sdk.Retries(first_pause=0.5)
    assert all(7 <= (retries.pause(1, 0, 7) or 0) <= 7.5 for _ in range(50))


def test_patience_is_for_all_pauses_together() -> None:
    retries = sdk.Retries(patience=10, first_pause=0.001)
    assert retries.pause(1, 0, 9) is not None
    assert retries.pause(2, 9, 2) is None
    assert retries.pause(1, 0, 3600) is None


@pytest.mark.parametrize(("value", "expected"), [
    (None, None), ("3", 3.0), (" 12 ", 12.0), ("0", 0.0), ("-3", None), ("soon", None), ("", None), ("1.5", None),
    ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0)])
def test_retry_after(value: str | None, expected: float | None) -> None:
    assert parse_retry_after(value) == expected


def test_retry_after_as_a_date() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    seconds = parse_retry_after(date)
    assert seconds is not None and 95 < seconds <= 100
