"""Names in the service's HTTP interface that the service and its clients share; ``docs/service.md`` describes it."""

from __future__ import annotations

PAYLOAD_TYPE = "application/vnd.edgegrain"
"""Media type of payloads."""
BYTES_TYPE = "application/octet-stream"
"""Media type of any file."""
PROBLEM_PREFIX = "urn:edgegrain:problem:"
"""Beginning of a problem's ``type``, before its kind."""
INVALID_PAYLOAD = "invalid-payload"
"""Kind of the problem for a `PayloadError`."""
INVALID_PICTURE = "invalid-picture"
"""Kind of the problem for an `ImageError`."""
