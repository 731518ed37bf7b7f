"""Wrapped Markdown, for the pages that benchmarks write."""

from __future__ import annotations

import textwrap

WIDTH = 120


def wrapped(text: str) -> str:
    """Wrap paragraphs and list items at `WIDTH` characters; tables, headings and code blocks stay as they are."""
    lines, code = [], False
    for line in text.split("\n"):
        code ^= line.startswith("```")
        if code or len(line) <= WIDTH or line.startswith(("|", "#", "```")):
            lines.append(line)
        else:
            lines += textwrap.wrap(line, WIDTH, subsequent_indent="  " if line.startswith("- ") else "",
                                   break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines)
