"""The command line's tests run on tiny bundles in place of the installed ones."""

from __future__ import annotations

from tests.tiny_bundle import tiny_bundles, tiny_root

__all__ = ["tiny_bundles", "tiny_root"]
