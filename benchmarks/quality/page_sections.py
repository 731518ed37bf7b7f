"""Sections of Markdown pages that programs write, between two marker comments."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from codec_contract.errors import EdgegrainError
from codec_contract.files import write_atomically


def require_section(page: Path, name: str) -> tuple[str, str]:
    """The page before and after a section's content, markers included."""
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    try:
        before, rest = page.read_text().split(begin)
        _, after = rest.split(end)
    except (OSError, ValueError):
        raise EdgegrainError(f"{page} has no section {name!r}; add the lines {begin.strip()} and {end}") from None
    return before + begin, end + after


def write_section(page: Path, name: str, lines: Sequence[str]) -> None:
    """Replace a section's content by ``lines``, with an empty line before and after."""
    before, after = require_section(page, name)
    write_atomically(page, "\n".join([before, *lines, "", after]).encode(), force=True)
