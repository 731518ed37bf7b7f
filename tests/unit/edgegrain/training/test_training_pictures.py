"""The pictures that a run is evaluated on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from edgegrain.training.family import RunOptions
from edgegrain.training.training_pictures import HELD_OUT, held_out_pictures

PICTURES = np.arange(20, dtype=np.uint8)[:, None, None, None].repeat(8, 1).repeat(8, 2).repeat(3, 3)


def test_training_pictures_are_not_read_again(tmp_path: Path) -> None:
    held_out = held_out_pictures(RunOptions(data=tmp_path / "gone"), PICTURES)
    np.testing.assert_array_equal(held_out, PICTURES[:HELD_OUT])


def test_validation_pictures_are_read_in_the_same_size(tmp_path: Path) -> None:
    Image.new("RGB", (24, 16), (77, 0, 0)).save(tmp_path / "a.png")
    held_out = held_out_pictures(RunOptions(data=tmp_path / "gone", validation=tmp_path), PICTURES)
    np.testing.assert_array_equal(held_out, np.full((1, 8, 8, 3), (77, 0, 0)))
