"""Where fetched and computed things lie on this machine."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """``$EDGEGRAIN_CACHE`` if that variable is set, else ``edgegrain`` in the user's cache folder.

    That is ``$XDG_CACHE_HOME``, else ``~/.cache``.
    """
    if own := os.environ.get("EDGEGRAIN_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgegrain"
