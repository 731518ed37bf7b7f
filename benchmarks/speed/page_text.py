"""Wrapped Markdown, and the section of a page that holds figures, for the pages that benchmarks write."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

from machine import ROOT

sys.path.insert(0, str(ROOT))

from codec_contract.files import write_atomically

WIDTH = 120
BEGIN, END = "<!-- figures -->", "<!-- /figures -->"


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


def replace_figures(page: Path, text: str) -> None:
    """Replace what stands between the two markers of a page."""
    before, rest = page.read_text().split(BEGIN)
    _, after = rest.split(END)
    write_atomically(page, f"{before}{BEGIN}\n{text}\n{END}{after}".encode(), force=True)
