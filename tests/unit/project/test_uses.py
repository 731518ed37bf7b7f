"""The table of uses names tests that exist."""

import re
from pathlib import Path


def test_every_named_test_exists(repository: Path) -> None:
    page = (repository / "tests" / "frozen" / "uses.md").read_text()
    rows = re.findall(r"^\| (?!use \|)(.+) \| (.+) \|$", page, re.MULTILINE)
    assert len(rows) > 90 and len({use for use, _ in rows}) == len(rows)
    for use, tests in rows:
        named = re.findall(r"`((?:clients|tests)/[^:`]+)::([^`]+)`", tests)
        assert named or tests.startswith("no test"), use
        for path, test in named:
            text = (repository / path).read_text()
            for name in test.split("::"):
                definition = rf"^ *(async )?(def|class) {name}\b" if path.endswith(".py") else re.escape(name)
                assert re.search(definition, text, re.MULTILINE), f"{path} has no {name}, for: {use}"
