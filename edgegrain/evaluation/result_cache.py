"""A cache of computed results on disk, one JSON file each; an interrupted evaluation continues from it.

The key of a record holds everything its value depends on (pixels, budget, encoder versions, weights...), so a stale
record is never returned. Bundles share records that do not depend on the bundle: a release with a new decoder and the
same encoder reuses all results of the classical codecs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from codec_contract.files import write_atomically


class ResultCache:
    """Records in a folder, which is created with the first record.

    Attributes:
        hits: number of records that were read instead of computed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.hits = 0

    def get_or_compute(self, key: Mapping[str, Any], compute: Callable[[], Any]) -> Any:
        """The value recorded for ``key``; if there is none, the value of ``compute``, which is recorded.

        Args:
            key: plain JSON data: everything the value depends on.
            compute: returns plain JSON data.
        """
        name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        path = self._folder / f"{name[:32]}.json"
        try:
            record = json.loads(path.read_bytes())
            if record["key"] == key:
                self.hits += 1
                return record["value"]
        except (OSError, ValueError, KeyError, TypeError):  # missing or damaged
            pass
        value = compute()
        write_atomically(path, json.dumps({"key": key, "value": value}).encode(), force=True)
        return value
