"""Progress of work that takes minutes."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[float, str], None]
"""Receives the finished part, 0...1, and a line of text about it."""
