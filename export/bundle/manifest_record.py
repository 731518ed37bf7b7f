"""A bundle's ``manifest.json`` as a record of plain JSON values, to change and write."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codec_contract.bundle.file_names import MANIFEST


def read_record(folder: Path) -> dict[str, Any]:
    """The manifest of the bundle in ``folder``, which was checked before."""
    record: dict[str, Any] = json.loads((folder / MANIFEST).read_bytes())
    return record


def file_record(data: bytes) -> dict[str, Any]:
    """The entry of a file with this content in the manifest's ``files``."""
    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def record_text(record: Mapping[str, Any]) -> bytes:
    """The bytes of ``manifest.json``."""
    return (json.dumps(record, indent=2) + "\n").encode()
