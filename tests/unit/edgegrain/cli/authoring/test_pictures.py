"""``edgegrain pictures pack``."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from edgegrain.cli.app import application
from edgegrain.pictures.stored_pictures import stored_pictures


def test_a_folder_becomes_shards(faces: Path, tmp_path: Path) -> None:
    command = ["pictures", "pack", str(faces), str(tmp_path / "out"), "--side", "64", "--exclude", "p0*"]
    result = CliRunner().invoke(application, [*command, "--json"])
    assert result.exit_code == 0
    printed = json.loads(result.stdout)
    assert printed["shards"] == [str(tmp_path / "out" / "64-00000.tar")]
    assert printed["bytes"] == (tmp_path / "out" / "64-00000.tar").stat().st_size
    assert len(stored_pictures(tmp_path / "out")) == len(list(faces.iterdir())) - 10
    again = CliRunner().invoke(application, command)
    assert again.exit_code == 1 and "--force" in again.stderr
    assert CliRunner().invoke(application, [*command, "--force"]).exit_code == 0
