"""``python -m edgegrain``: the same as the command ``edgegrain``."""

from __future__ import annotations

from edgegrain.cli.main import app

if __name__ == "__main__":
    app()
