"""The cache folder, for downloaded and computed files."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """The folder ``$EDGEGRAIN_CACHE`` if set, else ``edgegrain`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    if own := os.environ.get("EDGEGRAIN_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgegrain"
