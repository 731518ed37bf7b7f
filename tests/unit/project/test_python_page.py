"""docs/python.md: the reference of every public name, as the docstrings say it today."""

import runpy
from pathlib import Path

import sdk


def test_the_page_is_up_to_date(repository: Path) -> None:
    script = runpy.run_path(str(repository / "docs" / "python_page.py"))
    assert sorted(name for names in script["SECTIONS"].values() for name in names) == sorted({*sdk.__all__} - {"Align"})
    page = (repository / "docs" / "python.md").read_text()
    assert page == script["page"](), "run: python docs/python_page.py"
    assert '- `quality`: `"tiny"`, `"small"`, `"medium"` or `"large"` takes this rate' in page
