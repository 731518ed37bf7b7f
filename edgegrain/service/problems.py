"""Problem details (RFC 9457): the table of all kinds of errors that the service answers with."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from codec_contract.errors import BundleError, DeviceError, EdgegrainError, ImageError, PayloadError
from sdk.remote import INVALID_PAYLOAD, INVALID_PICTURE, PROBLEM_PREFIX

MEDIA_TYPE = "application/problem+json"


KINDS = {
    "bad-request": (400, "The request cannot be understood"),
    "unauthorized": (401, "A valid bearer token is required"),
    "not-found": (404, "There is no such resource"),
    "unknown-bundle": (404, "The bundle is not served here"),
    "method-not-allowed": (405, "The resource does not support this method"),
    "not-acceptable": (406, "None of the accepted formats can be made"),
    "body-timeout": (408, "The body did not arrive in time"),
    "too-large": (413, "The body is larger than allowed"),
    "unsupported-media-type": (415, "The body is of another media type"),
    "invalid-parameter": (422, "A parameter is unknown or out of range"),
    INVALID_PAYLOAD: (422, "The payload is damaged, or of a bundle that is not served here"),
    INVALID_PICTURE: (422, "The picture cannot be read, or is refused"),
    "client-closed": (499, "The client left before the answer"),
    "internal": (500, "The service has a defect"),
    "starting": (503, "The service is not ready yet"),
    "draining": (503, "The service is shutting down"),
    "queue-full": (503, "Too many requests are waiting"),
    "deadline-exceeded": (503, "The request could not be answered in time"),
    "worker-lost": (503, "The process that worked on the request was lost"),
}
"""Last part of the problem's ``type`` -> status and title."""


class Problem(Exception):
    """An error answer of one of the `KINDS`; ``detail`` states the cause in this case, the expectation, the remedy."""

    def __init__(self, kind: str, detail: str, headers: Mapping[str, str] | None = None, **extra: Any) -> None:
        super().__init__(detail)
        self.kind, self.detail, self.headers, self.extra = kind, detail, dict(headers or {}), extra

    @property
    def status(self) -> int:
        return KINDS[self.kind][0]

    def document(self, request_id: str | None = None) -> dict[str, Any]:
        """The JSON object of RFC 9457; ``instance`` is the request's id, as in the log."""
        status, title = KINDS[self.kind]
        head = {"type": PROBLEM_PREFIX + self.kind, "title": title, "status": status, "detail": self.detail}
        return {**head, **({} if request_id is None else {"instance": f"urn:uuid:{request_id}"}), **self.extra}


def retry_later(kind: str, detail: str, seconds: float = 1) -> Problem:
    """A transient problem, with ``Retry-After``: whole seconds, at least 1."""
    return Problem(kind, detail, {"Retry-After": str(max(1, math.ceil(seconds)))})


def wrong_parameter(parameter: str, detail: str) -> Problem:
    """The problem of a query parameter."""
    return Problem("invalid-parameter", detail, errors=[{"parameter": parameter, "reason": detail}])


@contextmanager
def refused_as(parameter: str) -> Iterator[None]:
    """Turn an error of the block into the problem of a query parameter."""
    try:
        yield
    except (BundleError, ImageError) as error:
        raise wrong_parameter(parameter, str(error)) from error


def problem_of(error: EdgegrainError) -> Problem:
    """The problem with which an `EdgegrainError` is answered."""
    detail = " ".join(str(error).split())
    if isinstance(error, PayloadError):
        return Problem(INVALID_PAYLOAD, detail)
    if isinstance(error, ImageError):
        return Problem(INVALID_PICTURE, detail)
    if isinstance(error, DeviceError):
        return retry_later("worker-lost", "the device failed while it worked on this request; try again")
    return Problem("internal", "unexpected error in the service; see its log under this id")


def problem_response(status: int, description: str) -> dict[int | str, dict[str, Any]]:
    """An entry of a route's ``responses`` in the OpenAPI document."""
    return {status: {"description": description, "content": {MEDIA_TYPE: {"schema": SCHEMA}}}}


_TEXT, _URI = {"type": "string"}, {"type": "string", "format": "uri"}
SCHEMA: dict[str, Any] = {
    "title": "Problem",
    "description": "Problem details, RFC 9457",
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {"type": _URI, "title": _TEXT, "status": {"type": "integer"}, "detail": _TEXT, "instance": _URI},
}
