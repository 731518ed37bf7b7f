from __future__ import annotations

import shutil
import subprocess
from functools import partial
from pathlib import Path

import pytest

from export.proof.report import clone_commit


def test_the_commit_is_that_of_the_clone_with_this_package(tmp_path: Path) -> None:
    """A package that is installed in a user's clone has no commit of its own."""
    if not shutil.which("git"):
        pytest.skip("needs git")
    git = partial(subprocess.run, cwd=tmp_path, check=True, capture_output=True, text=True)
    installed = tmp_path / "installed.py"
    installed.touch()
    assert clone_commit(str(installed)) is None
    git(["git", "init"])
    commit = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--message", "one"]
    git([*commit, "--allow-empty"])
    assert clone_commit(str(installed)) is None
    git(["git", "add", installed.name])
    git(commit)
    assert clone_commit(str(installed)) == git(["git", "rev-parse", "HEAD"]).stdout.strip()
    installed.write_text("changed")
    assert str(clone_commit(str(installed))).endswith(" with changes")
