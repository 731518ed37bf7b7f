"""Every recipe that a page or the command's help names exists."""

from __future__ import annotations

import re
from pathlib import Path

from edgegrain.cli.train import train
from edgegrain.training.grain.chains import CHAINS
from edgegrain.training.recipes import RECIPES


def test_documented_recipes_exist(repository: Path) -> None:
    texts = [page.read_text() for page in (repository / "README.md", repository / "zoo" / "README.md",
                                           *sorted((repository / "docs").rglob("*.md")))]
    named = {name for text in (*texts, train.__doc__ or "") for name in re.findall(r"edgegrain train ([a-z]\S*)", text)}
    assert len(named) >= 7  # those of the help
    assert {name.rstrip("`,.;:)") for name in named} <= {*RECIPES, *CHAINS}
