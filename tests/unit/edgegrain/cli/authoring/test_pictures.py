"""``edgegrain pictures pack``."""

from pathlib import Path

import numpy as np
from PIL import Image

from edgegrain.pictures.stored_pictures import read_square
from tests.unit.edgegrain.cli.conftest import Shell


def test_a_folder_is_stored_in_one_size(shell: Shell, faces: Path, tmp_path: Path) -> None:
    arguments, out = ["pictures", "pack", faces, tmp_path / "out", "--side", 64, "--exclude", "p0*"], tmp_path / "out"
    printed, stored = shell.json(*arguments, "--lossless"), sorted(out.iterdir())
    assert (printed["pictures"], printed["bytes"]) == (len(stored), sum(path.stat().st_size for path in stored))
    originals = sorted(path for path in faces.iterdir() if not path.name.startswith("p0"))
    assert [path.name for path in stored] == [f"{path.stem}.webp" for path in originals]
    with Image.open(stored[0]) as picture:
        assert np.array_equal(np.asarray(picture), read_square(originals[0], 64))
    shell.fails("--force", *arguments)
    shell.ok(*arguments, "--force")


def test_pictures_that_differ_by_the_suffix_alone_are_all_kept(shell: Shell, tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg", "b.png"):
        Image.new("RGB", (16, 16)).save(tmp_path / name)
    shell.ok("pictures", "pack", tmp_path, tmp_path / "out", "--side", 16)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.jpg.webp", "a.png.webp", "b.webp"]
