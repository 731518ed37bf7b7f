"""Listing pictures, and reading their centre squares."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from codec_contract.errors import ImageError
from codec_contract.exact_square import exact_resize
from edgegrain.pictures import stored_pictures
from edgegrain.pictures.stored_pictures import list_pictures, original_of, read_square
from tests.pictures import exif


def test_patterns_leave_pictures_out(tmp_path: Path) -> None:
    for name in ("a_0.png", "a_1.png", "b_0.png", "notes.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in list_pictures(tmp_path, ("b_*",))] == ["a_0.png", "a_1.png"]
    with pytest.raises(ImageError, match=r"no pictures .* besides \*"):
        list_pictures(tmp_path, ("*",))


def test_large_jpegs_are_decoded_smaller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    Image.fromarray(cells).resize((1200, 800), Image.Resampling.BICUBIC).save(tmp_path / "large.jpg", quality=95)
    sizes = []
    load = stored_pictures.load_picture
    monkeypatch.setattr(stored_pictures, "load_picture", lambda image: sizes.append(image.size) or load(image))
    small = read_square(tmp_path / "large.jpg", 32)
    with Image.open(tmp_path / "large.jpg") as image:
        whole = np.asarray(image.convert("RGB"))[:, 200:1000]
    assert sizes == [(300, 200)]
    assert np.abs(small.astype(int) - exact_resize(np.ascontiguousarray(whole), (32, 32))).max() <= 3
    read_square(tmp_path / "large.jpg", 128)
    assert sizes[1] == (1200, 800)


def test_pictures_are_read_as_the_encoder_reads_them(tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (12, 8, 3), np.uint8)
    Image.fromarray(rgb).save(tmp_path / "turned.png", exif=exif(6))  # turned by 90 degrees
    alpha = np.dstack([rgb, np.zeros((12, 8), np.uint8)])
    Image.fromarray(alpha).save(tmp_path / "transparent.png")
    np.testing.assert_array_equal(read_square(tmp_path / "turned.png", 8), np.rot90(rgb, -1)[:, 2:10])
    assert (read_square(tmp_path / "transparent.png", 8) == 255).all()


def test_the_original_is_the_centre_square(tmp_path: Path, portrait: np.ndarray) -> None:
    Image.fromarray(portrait[:, 96:160]).save(tmp_path / "narrow.png")
    assert np.array_equal(original_of(tmp_path / "narrow.png", 64), portrait[96:160, 96:160])
    Image.fromarray(portrait).save(tmp_path / "large.jpg")
    with Image.open(tmp_path / "large.jpg") as whole:
        assert np.array_equal(original_of(tmp_path / "large.jpg", 16), exact_resize(np.asarray(whole), (16, 16)))
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(ImageError):
        original_of(tmp_path / "text.png", 64)
