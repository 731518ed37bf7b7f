"""Results that were already computed, one small file each, so that an interrupted evaluation continues where it was.

A record is found by everything it depends on (pixels, budget, encoder versions, weights...), so a stale one is never
taken for a fresh one, and bundles share what does not depend on them: a release with a new decoder and the old encoder
finds all its classical opponents here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from codec_contract.files import write_atomically


class Journal:
    """Records in a folder, which is made when the first one is written.

    Attributes:
        found: how many records were read instead of made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.found = 0

    def recall(self, key: Mapping[str, Any], make: Callable[[], Any]) -> Any:
        """The value recorded for ``key``, else the one that ``make`` gives, recorded.

        Args:
            key: plain JSON data: everything the value depends on.
            make: gives plain JSON data.
        """
        name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        path = self._folder / f"{name[:32]}.json"
        try:
            record = json.loads(path.read_bytes())
            if record["key"] == key:
                self.found += 1
                return record["value"]
        except (OSError, ValueError, KeyError, TypeError):  # absent or damaged
            pass
        value = make()
        write_atomically(path, json.dumps({"key": key, "value": value}).encode(), force=True)
        return value
