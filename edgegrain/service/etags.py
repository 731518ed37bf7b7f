"""The header ``If-None-Match`` (RFC 9110, 13.1.2)."""

from __future__ import annotations


def etag_matches(if_none_match: str, etag: str) -> bool:
    """True if the client has the file with this strong ``etag``; the header is a list of ETags, ``*`` or empty."""
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return etag in tags or tags == ["*"]
