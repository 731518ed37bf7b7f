"""Logs as JSON lines on stderr, one object per event; never a picture, payload, token or query string."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

PACKAGES = ("codec_contract", "edge_encoder", "edgegrain", "export", "sdk", "server_decoder")
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
    """Send events of at least ``level`` to stderr as JSON lines; those of libraries of at least ``info``.

    At ``debug`` libraries log what no log may hold: Pillow the EXIF data of pictures, for instance.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel("INFO" if level == "debug" else level.upper())
    for package in PACKAGES:
        logging.getLogger(package).setLevel(level.upper())


def log(logger: logging.Logger, level: int, event: str, error: Exception | None = None, /, **fields: Any) -> None:
    """Log an event with fields, and the traceback of an error."""
    logger.log(level, event, exc_info=error, extra={FIELDS: fields})
