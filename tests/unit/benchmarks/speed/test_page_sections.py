"""A section is replaced between its markers, and nothing else of the page."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.speed.measurement import write_section
from codec_contract.errors import EdgegrainError

PAGE = "# Page\n\n<!-- a -->\nold\nlines\n<!-- /a -->\n\nbetween\n\n<!-- b c -->\n<!-- /b c -->\n"


def test_one_section_is_replaced_and_can_be_again(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    write_section(page, ["| x |", "|---|"], "a")
    expected = PAGE.replace("old\nlines\n", "\n| x |\n|---|\n\n")
    assert page.read_text() == expected
    write_section(page, ["| x |", "|---|"], "a")
    assert page.read_text() == expected
    write_section(page, ["new"], "b c")
    assert page.read_text() == expected.replace("<!-- b c -->\n", "<!-- b c -->\n\nnew\n\n")


@pytest.mark.parametrize("name", ["c", "a -->"])
def test_a_page_without_the_markers_is_left_alone(tmp_path: Path, name: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    with pytest.raises(EdgegrainError, match="has no section"):
        write_section(page, ["new"], name)
    assert page.read_text() == PAGE
    with pytest.raises(EdgegrainError, match="has no section"):
        write_section(tmp_path / "absent.md", ["new"], "a")
