"""Tar shards: no larger than asked, whole, and read as if each picture were a file of its own."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from codec_contract.errors import EdgegrainError, ImageError
from edgegrain.pictures.packed import pack, stored_pictures
from edgegrain.pictures.tar_shards import write_shards

COUNT, SIDE = 12, 32


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    (tmp_path / "pictures").mkdir()
    for index in range(COUNT):
        noise = rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / "pictures" / f"{'ab'[index % 2]}_{index:02}.png")
    return tmp_path / "pictures"


def test_shards_keep_the_limit_and_every_pixel(folder: Path, tmp_path: Path) -> None:
    limit = 24_000
    shards = write_shards(stored_pictures(folder), tmp_path / "out", side=SIDE, limit=limit, quality=None)
    assert len(shards) >= 3 and [shard.name for shard in shards[:2]] == ["32-00000.tar", "32-00001.tar"]
    assert all(shard.stat().st_size <= limit for shard in shards)
    assert sorted(shards) == sorted((tmp_path / "out").iterdir())
    stored = stored_pictures(tmp_path / "out")
    assert [Path(picture.name).stem for picture in stored] == [path.stem for path in sorted(folder.iterdir())]
    direct = pack(stored_pictures(folder), SIDE, tmp_path / "direct")
    np.testing.assert_array_equal(pack(stored, SIDE, tmp_path / "packed"), direct)


def test_patterns_reach_into_shards_and_files_may_lie_beside_them(folder: Path, tmp_path: Path) -> None:
    write_shards(stored_pictures(folder, ("b_*",)), folder, side=SIDE, limit=10**6)
    names = [picture.name for picture in stored_pictures(folder)]
    assert len(names) == COUNT + COUNT // 2 and "a_00.webp" in names
    assert {name[0] for name in (picture.name for picture in stored_pictures(folder, ("a_*",)))} == {"b"}


def test_nothing_is_replaced_unasked_and_old_shards_go(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    many = write_shards(stored_pictures(folder), out, side=SIDE, limit=20_000, quality=None)
    with pytest.raises(FileExistsError, match="--force"):
        write_shards(stored_pictures(folder), out, side=SIDE, limit=10**6)
    one = write_shards(stored_pictures(folder), out, side=SIDE, limit=10**6, force=True)
    assert len(many) > len(one) == 1 and list(out.iterdir()) == one


def test_what_cannot_be_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(EdgegrainError, match="raise --limit-mb"):
        write_shards(stored_pictures(folder), tmp_path / "out", side=SIDE, limit=11_000, quality=None)
    assert not list((tmp_path / "out").iterdir())
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match="nor tar shards"):
        stored_pictures(tmp_path / "empty")
    (tmp_path / "empty" / "broken.tar").write_bytes(b"x" * 2000)
    with pytest.raises(ImageError, match=r"broken.tar is not a complete tar file"):
        stored_pictures(tmp_path / "empty")


def test_a_shard_is_an_ordinary_tar(folder: Path, tmp_path: Path) -> None:
    (shard,) = write_shards(stored_pictures(folder), tmp_path, side=16, limit=10**6)
    with tarfile.open(shard) as tar:
        member = tar.getmembers()[0]
        content = tar.extractfile(member)
        assert content is not None
        with Image.open(content) as picture:
            assert picture.format == "WEBP" and picture.size == (16, 16)
