"""The original of a comparison: the centre square, of a JPEG too from all of its pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from codec_contract.errors import ImageError
from codec_contract.resize import exact_resize
from edgegrain.pictures.originals import original_of


def test_the_original_is_the_centre_square(tmp_path: Path, portrait: np.ndarray) -> None:
    Image.fromarray(portrait[:, 96:160]).save(tmp_path / "narrow.png")
    assert np.array_equal(original_of(tmp_path / "narrow.png", 64), portrait[96:160, 96:160])
    Image.fromarray(portrait).save(tmp_path / "large.jpg")
    with Image.open(tmp_path / "large.jpg") as whole:
        assert np.array_equal(original_of(tmp_path / "large.jpg", 16), exact_resize(np.asarray(whole), (16, 16)))
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(ImageError):
        original_of(tmp_path / "text.png", 64)
