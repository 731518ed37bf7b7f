"""Packing and drawing of training pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from codec_contract.errors import ImageError
from codec_contract.resize import exact_resize
from edgegrain.pictures import packed
from edgegrain.pictures.packed import batches, list_pictures, pack, read_square


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for index, name in enumerate(("a_0.png", "a_1.png", "b_0.png", "notes.txt")):
        if name.endswith(".png"):
            Image.new("RGB", (20, 16), (index, 10, 20)).save(tmp_path / name)
        else:
            (tmp_path / name).write_text("no picture")
    return tmp_path


def test_patterns_leave_pictures_out(folder: Path) -> None:
    assert [path.name for path in list_pictures(folder, ("b_*",))] == ["a_0.png", "a_1.png"]
    with pytest.raises(ImageError, match="no pictures"):
        list_pictures(folder, ("*",))


def test_the_centre_square_is_taken(tmp_path: Path) -> None:
    rgb = np.zeros((4, 8, 3), np.uint8)
    rgb[:, 2:6] = 200
    Image.fromarray(rgb).save(tmp_path / "wide.png")
    assert (read_square(tmp_path / "wide.png", 4) == 200).all()


def test_large_jpegs_are_decoded_smaller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    Image.fromarray(cells).resize((1200, 800), Image.Resampling.BICUBIC).save(tmp_path / "large.jpg", quality=95)
    sizes = []
    load = packed.load_picture
    monkeypatch.setattr(packed, "load_picture", lambda image: sizes.append(image.size) or load(image))
    small = read_square(tmp_path / "large.jpg", 32)
    with Image.open(tmp_path / "large.jpg") as image:
        whole = np.asarray(image.convert("RGB"))[:, 200:1000]
    assert sizes == [(300, 200)]
    assert np.abs(small.astype(int) - exact_resize(np.ascontiguousarray(whole), (32, 32))).max() <= 3
    read_square(tmp_path / "large.jpg", 128)
    assert sizes[1] == (1200, 800)


def test_packing_is_done_once_and_keeps_every_pixel(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = list_pictures(folder)
    shard = pack(paths, 16, folder / "cache")
    assert shard.shape == (3, 16, 16, 3)
    assert [int(picture[0, 0, 0]) for picture in shard] == [0, 1, 2]
    files = list((folder / "cache").iterdir())
    monkeypatch.setattr(packed, "read_square", None)
    np.testing.assert_array_equal(pack(paths, 16, folder / "cache"), shard)
    assert list((folder / "cache").iterdir()) == files


def test_other_pictures_of_the_same_names_are_packed_again(folder: Path, tmp_path: Path) -> None:
    pack(list_pictures(folder), 16, tmp_path / "cache")
    noise = np.random.default_rng(0).integers(0, 256, (16, 20, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "a_1.png")
    shard = pack(list_pictures(folder), 16, tmp_path / "cache")
    np.testing.assert_array_equal(shard[1], noise[:, 2:18])


def test_every_picture_comes_once_before_any_comes_again() -> None:
    pictures = np.arange(6, dtype=np.uint8).reshape(6, 1, 1, 1).repeat(3, 3)
    feed = batches(pictures, 2, seed=0)
    for _ in range(3):
        seen = [int(value) for _ in range(3) for value in next(feed)[:, 0, 0, 0]]
        assert sorted(seen) == list(range(6))


def test_pictures_are_read_as_the_encoder_reads_them(tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (12, 8, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.fromarray(rgb).save(tmp_path / "turned.png", exif=exif)
    alpha = np.dstack([rgb, np.zeros((12, 8), np.uint8)])
    Image.fromarray(alpha).save(tmp_path / "transparent.png")
    np.testing.assert_array_equal(read_square(tmp_path / "turned.png", 8), np.rot90(rgb, -1)[:, 2:10])
    assert (read_square(tmp_path / "transparent.png", 8) == 255).all()


def test_a_damaged_picture_is_named_and_leaves_no_file(folder: Path, tmp_path: Path) -> None:
    (folder / "damaged.png").write_bytes((folder / list_pictures(folder)[0].name).read_bytes()[:40])
    with pytest.raises(ImageError, match=r"damaged.png in .* cannot be read as a picture.*--exclude"):
        pack(list_pictures(folder), 8, tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())
