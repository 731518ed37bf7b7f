"""Content negotiation: the picture format for an ``Accept`` header, RFC 9110 section 12.5.1."""

from __future__ import annotations

from edgegrain.service.problem_details import Problem

MEDIA_TYPES = {"png": "image/png", "webp": "image/webp", "jpeg": "image/jpeg"}
"""Supported picture formats, in order of preference."""

MAX_RANGES = 64
"""Most parts of an ``Accept`` header that are read."""


def choose_format(accept: str | None) -> str:
    """The key of `MEDIA_TYPES` that matches an ``Accept`` header best; PNG if the client has no preference.

    Raises:
        Problem: 406, none matches.
    """
    if accept is None or not accept.strip():
        return "png"
    wanted: dict[str, float] = {}
    for part in accept.split(",")[:MAX_RANGES]:
        media_range, *parameters = (piece.strip().lower() for piece in part.split(";"))
        wanted[media_range] = max(_quality(parameters), wanted.get(media_range, 0.0))

    def quality(media_type: str) -> float:
        for media_range in (media_type, "image/*", "*/*"):  # the most specific range that matches decides
            if media_range in wanted:
                return wanted[media_range]
        return 0.0

    best = max(MEDIA_TYPES, key=lambda name: quality(MEDIA_TYPES[name]))  # the first of equals
    if quality(MEDIA_TYPES[best]) <= 0:
        raise Problem("not-acceptable", f"pictures are made as {', '.join(MEDIA_TYPES.values())}; accept one of these")
    return best


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                weight = float(value)
            except ValueError:
                return 0.0
            return weight if 0 <= weight <= 1 else 0.0  # NaN is neither
    return 1.0
