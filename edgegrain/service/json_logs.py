"""Logs as JSON lines on stderr, one object per event; never a picture, payload, token or query string."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

FIELDS = "fields"
"""Attribute of a log record with the event's own fields."""


class JsonFormatter(logging.Formatter):
    """Format time (UTC), level, logger, event, the event's fields, and a traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        entry: dict[str, Any] = {
            "time": f"{moment}.{int(record.msecs):03d}Z", "level": record.levelname.lower(), "logger": record.name,
            "event": record.getMessage(), **getattr(record, FIELDS, {})}
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def configure_logs(level: str) -> None:
    """Send every logger's events of at least ``level`` to stderr as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


def log(logger: logging.Logger, level: int, event: str, **fields: Any) -> None:
    """Log an event with fields."""
    logger.log(level, event, extra={FIELDS: fields})
