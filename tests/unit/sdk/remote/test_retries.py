"""Pauses between attempts, and the header ``Retry-After``."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from edgegrain.service.retry_times import MAX_RETRY_AFTER

import sdk
from sdk.remote.retries import parse_retry_after


def test_pauses_grow_up_to_a_limit() -> None:
    retries = sdk.Retries(attempts=10, first_pause=1, longest_pause=4, patience=1000)
    for attempt, most in ((1, 1), (2, 2), (3, 4), (4, 4), (9, 4)):
        pauses = [retries.pause(attempt, 0, None) for _ in range(50)]
        assert all(pause is not None and most / 2 <= pause <= most for pause in pauses)
        assert len(set(pauses)) > 1  # clients do not come back together
    assert retries.pause(10, 0, None) is None


def test_many_attempts() -> None:
    pause = sdk.Retries(attempts=5000, patience=1000).pause(4000, 0, None)
    assert pause is not None and 5 <= pause <= 10


@pytest.mark.parametrize("wrong", [
    {"attempts": 2.0}, {"first_pause": -1}, {"longest_pause": float("nan")}, {"patience": float("inf")},
    {"patience": None}])
def test_values_that_are_none(wrong: dict[str, Any]) -> None:
    with pytest.raises(sdk.ServiceError, match=f"{next(iter(wrong))} is a (whole )?number"):
        sdk.Retries(**wrong)


def test_never_earlier_than_asked_for() -> None:
    retries = sdk.Retries(first_pause=0.5)
    assert all(7 <= (retries.pause(1, 0, 7) or 0) <= 7.5 for _ in range(50))


def test_patience_is_for_all_pauses_together() -> None:
    retries = sdk.Retries(patience=10, first_pause=0.001)
    assert retries.pause(1, 0, 9) is not None
    assert retries.pause(2, 9, 2) is None
    assert retries.pause(1, 0, 3600) is None


def test_jitter_does_not_exceed_the_patience() -> None:
    retries = sdk.Retries()
    assert retries.pause(1, 0, MAX_RETRY_AFTER) == retries.patience
    assert retries.pause(2, 0.3, 59.7) == pytest.approx(59.7)
    assert retries.pause(2, 0.4, 59.7) is None


@pytest.mark.parametrize(("value", "expected"), [
    (None, None), ("3", 3.0), (" 12 ", 12.0), ("0", 0.0), ("-3", None), ("soon", None), ("", None), ("1.5", None),
    ("Mon, 01 Jan 2020 00:00:00 +99999999999999", None), ("Mon, 01 Jan 99999999999 00:00:00 GMT", None),
    ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0)])
def test_retry_after(value: str | None, expected: float | None) -> None:
    assert parse_retry_after(value) == expected


def test_retry_after_as_a_date() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    seconds = parse_retry_after(date)
    assert seconds is not None and 95 < seconds <= 100
