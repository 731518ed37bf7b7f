"""Pictures for training and evaluation: reading, packing, shards, sheets."""

from __future__ import annotations

from typing import Any

MAX_SIDES = {"png": 65535, "webp": 16383, "jpeg": 65500}
"""Format -> longest side of its files, in pixels."""

SAVE_OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("PNG", {}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".webp": ("WEBP", {"quality": 95}),
}
"""Suffix of a restored picture -> Pillow's format and options."""
