"""``If-None-Match`` names a file, or does not."""

from __future__ import annotations

import pytest

from edgegrain.service.etags import etag_matches


@pytest.mark.parametrize(("header", "matches"), [
    ('"ab"', True), ('W/"ab"', True), ('"cd", W/"ab" ', True), ("*", True),
    ("", False), ('"cd"', False), ('"ab", *', True), ('"cd", *', False), ('x"ab"y', False)])
def test_the_header_names_the_file(header: str, matches: bool) -> None:
    assert etag_matches(header, '"ab"') is matches
