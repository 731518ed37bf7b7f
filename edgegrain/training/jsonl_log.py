"""The log of a training run: one JSON object per line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class JsonlLog:
    """Appends rows to a file; a path of None discards them.

    A last line that was cut off, by a full disk for instance, stays a line of its own.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        if path is not None and path.is_file() and (rows := path.read_bytes()) and not rows.endswith(b"\n"):
            with path.open("a") as file:
                file.write("\n")

    def write(self, row: Mapping[str, Any]) -> None:
        """Append a row; floats are rounded to five decimals."""
        if self._path is not None:
            plain = {name: round(value, 5) if isinstance(value, float) else value for name, value in row.items()}
            with self._path.open("a") as file:
                file.write(json.dumps(plain) + "\n")
