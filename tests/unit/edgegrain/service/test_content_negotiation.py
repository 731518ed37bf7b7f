"""Content negotiation by the header ``Accept``."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgegrain.service.content_negotiation import choose_format
from edgegrain.service.problem_details import Problem


@pytest.mark.parametrize(("accept", "expected"), [
    (None, "png"), ("", "png"), ("*/*", "png"), ("image/*", "png"), ("image/png", "png"), ("image/webp", "webp"),
    ("IMAGE/JPEG", "jpeg"), ("image/webp, image/png", "png"), ("image/webp, image/png;q=0.9", "webp"),
    ("image/jpeg;q=0.3, image/webp;q=0.4", "webp"), ("image/png;q=0, */*;q=0.1", "webp"),
    ("text/html, image/avif, image/*;q=0.5", "png"), ("image/*;q=0, image/jpeg", "jpeg"),
    ("image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5", "png")])
def test_best_format(accept: str | None, expected: str) -> None:
    assert choose_format(accept) == expected


@pytest.mark.parametrize("accept", ["text/html", "image/avif", "image/png;q=0", "*/*;q=0", "image/png;q=nan", ";;,,",
                                    "image/png;q=2"])
def test_nothing_fits(accept: str) -> None:
    with pytest.raises(Problem) as caught:
        choose_format(accept)
    assert caught.value.status == 406 and "image/png, image/webp, image/jpeg" in caught.value.detail


@given(st.text(max_size=200))
def test_any_header_is_answered(accept: str) -> None:
    try:
        assert choose_format(accept) in ("png", "webp", "jpeg")
    except Problem as problem:
        assert problem.status == 406
