"""Limits of picture files."""

from __future__ import annotations

MAX_SIDES = {"png": 65535, "webp": 16383, "jpeg": 65500}
"""Format -> longest side of its files, in pixels."""
