"""Packing and drawing of training pictures."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from codec_contract.errors import ImageError
from edgegrain.papers.irn import training as crops
from edgegrain.pictures import packed
from edgegrain.pictures.packed import batches, pack
from edgegrain.pictures.stored_pictures import list_pictures


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for index, name in enumerate(("a_0.png", "a_1.png", "b_0.png")):
        Image.new("RGB", (20, 16), (index, 10, 20)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    return tmp_path


def test_packing_is_done_once_and_keeps_every_pixel(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard = pack(list_pictures(folder), 16, folder / "cache")
    assert shard.shape == (3, 16, 16, 3)
    assert [int(picture[0, 0, 0]) for picture in shard] == [0, 1, 2]
    files = list((folder / "cache").iterdir())
    monkeypatch.setattr(packed, "read_square", None)
    moved = folder / "moved"
    moved.mkdir()
    for pictures in (folder, moved):
        np.testing.assert_array_equal(pack(list_pictures(pictures), 16, folder / "cache"), shard)
        for path in folder.glob("*.png"):
            path.rename(moved / path.name)
    assert list((folder / "cache").iterdir()) == files


def test_other_pictures_of_the_same_names_and_lengths_are_packed_again(tmp_path: Path) -> None:
    path, lengths = tmp_path / "a.png", set()
    for seed in range(2):
        noise = np.random.default_rng(seed).integers(0, 256, (16, 20, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path, compress_level=0)
        os.utime(path, ns=(0, seed))
        lengths.add(path.stat().st_size)
        np.testing.assert_array_equal(pack(list_pictures(tmp_path), 16, tmp_path / "cache")[0], noise[:, 2:18])
        np.testing.assert_array_equal(np.load(crops.pack_photographs([path], tmp_path / "cache")[0]), noise)
    assert len(lengths) == 1


def test_names_that_are_not_utf8_are_packed(tmp_path: Path) -> None:
    Image.new("L", (16, 16), 7).save(tmp_path / "caf\udce9.png")  # the byte 233
    assert (pack(list_pictures(tmp_path), 16, tmp_path / "cache") == 7).all()
    assert (np.load(crops.pack_photographs(list_pictures(tmp_path), tmp_path / "cache")[0]) == 7).all()


def test_every_picture_comes_once_before_any_comes_again() -> None:
    pictures = np.arange(6, dtype=np.uint8).reshape(6, 1, 1, 1).repeat(3, 3)
    feed = batches(pictures, 2, seed=0)
    for _ in range(3):
        seen = [int(value) for _ in range(3) for value in next(feed)[:, 0, 0, 0]]
        assert sorted(seen) == list(range(6))


def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16)).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content", [encoded("PNG")[:50], b"", encoded("AVIF").replace(b"iloc", b"free")], ids=["PNG", "empty", "AVIF"]
)  # the last is raised as RuntimeError
def test_a_damaged_picture_is_named_and_leaves_no_file(folder: Path, tmp_path: Path, content: bytes) -> None:
    (folder / "damaged.jpg").write_bytes(content)
    with pytest.raises(ImageError, match=r"damaged.jpg cannot be read as a picture \(.+\).*--exclude"):
        pack(list_pictures(folder), 8, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("[!.]*"))
