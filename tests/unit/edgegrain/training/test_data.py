"""Pictures of a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from codec_contract.errors import ImageError
from edgegrain.training.data import HELD_OUT, held_out_pictures, training_pictures, without
from edgegrain.training.family import RunOptions

PICTURES = np.arange(20, dtype=np.uint8)[:, None, None, None].repeat(8, 1).repeat(8, 2).repeat(3, 3)


def test_training_pictures_are_not_read_again(tmp_path: Path) -> None:
    held_out = held_out_pictures(RunOptions(data=tmp_path / "gone"), PICTURES)
    np.testing.assert_array_equal(held_out, PICTURES[:HELD_OUT])


def test_generated_pictures_can_be_left_out(tmp_path: Path) -> None:
    options = without(RunOptions(data=tmp_path, exclude=("b*",)), ("generated_*",))
    for name in ("a", "b", "generated_0"):
        Image.new("RGB", (8, 8), (len(name), 0, 0)).save(tmp_path / f"{name}.png")
    assert training_pictures(options, tmp_path / "run", 8, count=0, seed=1).tolist() == [[[[1, 0, 0]] * 8] * 8]
    (tmp_path / "a.png").unlink()
    with pytest.raises(ImageError, match=r"names of all 2 pictures .* left out \(b\*, generated_\*\); add others"):
        training_pictures(options, tmp_path / "run", 8, count=0, seed=1)


def test_validation_pictures_are_read_in_the_same_size(tmp_path: Path) -> None:
    Image.new("RGB", (24, 16), (77, 0, 0)).save(tmp_path / "a.png")
    held_out = held_out_pictures(RunOptions(data=tmp_path / "gone", validation=tmp_path), PICTURES)
    np.testing.assert_array_equal(held_out, np.full((1, 8, 8, 3), (77, 0, 0)))
