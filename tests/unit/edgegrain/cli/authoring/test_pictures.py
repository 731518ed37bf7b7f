"""``edgegrain pictures pack``."""

from __future__ import annotations

from pathlib import Path

from edgegrain.pictures.stored_pictures import stored_pictures
from tests.unit.edgegrain.cli.conftest import Shell


def test_a_folder_becomes_shards(shell: Shell, faces: Path, tmp_path: Path) -> None:
    arguments = ["pictures", "pack", faces, tmp_path / "out", "--side", 64, "--exclude", "p0*"]
    printed, shard = shell.json(*arguments), tmp_path / "out" / "64-00000.tar"
    assert (printed["shards"], printed["bytes"]) == ([str(shard)], shard.stat().st_size)
    assert len(stored_pictures(tmp_path / "out")) == len(list(faces.iterdir())) - 10
    shell.fails("--force", *arguments)
    shell.ok(*arguments, "--force")
