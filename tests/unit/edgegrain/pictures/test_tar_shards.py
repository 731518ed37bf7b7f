"""Tar shards: of limited size, complete, and read like separate files."""

from __future__ import annotations

import errno
import signal
import tarfile
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

from codec_contract.errors import EdgegrainError, ImageError
from edgegrain.pictures import tar_shards
from edgegrain.pictures.packed import pack
from edgegrain.pictures.stored_pictures import stored_pictures
from edgegrain.pictures.tar_shards import write_shard, write_shards
from edgegrain.pictures.writing import InUseError

COUNT, SIDE = 12, 32


def save_noise(folder: Path, names: list[str]) -> np.ndarray:
    """Saves as many pictures, uint8 ``[N, SIDE, SIDE, 3]``."""
    folder.mkdir()
    pictures = np.random.default_rng(0).integers(0, 256, (len(names), SIDE, SIDE, 3), np.uint8)
    for name, rgb in zip(names, pictures, strict=True):
        Image.fromarray(rgb).save(folder / name, lossless=True)
    return pictures


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_noise(tmp_path / "pictures", [f"{'ab'[index % 2]}_{index:02}.png" for index in range(COUNT)])
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


def test_the_end_of_a_tar_counts_too(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A member of 9728 bytes and two blocks of zeros fill one block more than 10,240 bytes."""
    monkeypatch.setattr(tar_shards, "_encoded", lambda *_: bytes(9728 - 512))
    pictures = stored_pictures(folder)[:2]
    with pytest.raises(EdgegrainError, match="raise --limit-mb"):
        write_shards(pictures, tmp_path / "out", side=SIDE, limit=20_479)
    shards = write_shards(pictures, tmp_path / "out", side=SIDE, limit=20_480)
    assert [shard.stat().st_size for shard in shards] == [20_480, 20_480]


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


def test_one_process_at_a_time_writes_to_a_folder(folder: Path, tmp_path: Path) -> None:
    out, pictures, refused = tmp_path / "out", stored_pictures(folder), []

    def interfere(part: float, text: str) -> None:
        with pytest.raises(InUseError, match=r"another process writes to .*out; wait"):
            write_shards(pictures[:2], out, side=SIDE, limit=10**6, force=True)
        refused.append(text)

    shards = write_shards(pictures, out, side=SIDE, limit=20_000, quality=None, report=interfere)
    assert len(refused) == len(stored_pictures(out)) == COUNT and sorted(out.iterdir()) == shards


def test_shards_can_be_packed_again_in_place(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_shards(stored_pictures(folder), out, side=SIDE, limit=10**6, quality=None)
    before = pack(stored_pictures(out), SIDE, tmp_path / "before")
    again = write_shards(stored_pictures(out), out, side=SIDE, limit=20_000, quality=None, force=True)
    assert len(again) > 2 and sorted(out.iterdir()) == sorted(again)
    np.testing.assert_array_equal(pack(stored_pictures(out), SIDE, tmp_path / "after"), before)


@pytest.mark.parametrize("by", ["Ctrl-C", "SIGTERM"])
def test_an_interruption_leaves_the_shards_as_they_were(folder: Path, tmp_path: Path, by: str) -> None:
    out = tmp_path / "out"
    (old,) = write_shards(stored_pictures(folder), out, side=SIDE, limit=10**6)
    content = old.read_bytes()

    def interrupt(part: float, text: str) -> None:
        if " 2 shards" in text:
            if by == "Ctrl-C":  # no signal, which processes in the background ignore
                raise KeyboardInterrupt
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises((KeyboardInterrupt, SystemExit)):
        write_shards(stored_pictures(folder), out, side=SIDE, limit=20_000, quality=None, force=True, report=interrupt)
    assert list(out.iterdir()) == [old] and old.read_bytes() == content


def test_a_full_disk_names_the_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = Mock(side_effect=OSError(errno.ENOSPC, "No space left on device"))
    monkeypatch.setattr(tarfile.TarFile, "addfile", full)
    with pytest.raises(OSError, match="No space left on device: .*a.tar"):
        write_shard(tmp_path / "a.tar", [("a.webp", b"content")])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("names", "members", "order"), [
    (["a-2.png", "a.png", "a.webp"], ["a-2", "a-3", "a"], [0, 2, 1]),
    ([f"{index}{'é' * 60}.png" for index in range(4)], [f"{index}{'é' * 60}" for index in range(4)], [0, 1, 2, 3])])
def test_every_picture_has_a_name_of_its_own_which_may_be_long(names: list[str], members: list[str], order: list[int],
                                                               tmp_path: Path) -> None:
    colours = save_noise(tmp_path / "pictures", names)
    limit, pictures = 20_000, stored_pictures(tmp_path / "pictures")
    shards = write_shards(pictures, tmp_path / "out", side=SIDE, limit=limit, quality=None)
    assert len(shards) >= len(names) - 2 and all(shard.stat().st_size <= limit for shard in shards)
    stored = stored_pictures(tmp_path / "out")
    assert [picture.name for picture in stored] == [f"{member}.webp" for member in members]
    np.testing.assert_array_equal(pack(stored, SIDE, tmp_path / "packed"), colours[order])


def test_impossible_limits_and_damaged_shards_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(EdgegrainError, match="raise --limit-mb"):
        write_shards(stored_pictures(folder), tmp_path / "out", side=SIDE, limit=11_000, quality=None)
    assert not (tmp_path / "out").exists()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match="nor tar shards"):
        stored_pictures(tmp_path / "empty")
    (tmp_path / "empty" / "broken.tar").write_bytes(b"x" * 2000)
    with pytest.raises(ImageError, match=r"broken.tar is not a complete tar file"):
        stored_pictures(tmp_path / "empty")


def test_a_shard_is_refused_wherever_it_is_cut(folder: Path, tmp_path: Path) -> None:
    (shard,) = write_shards(stored_pictures(folder)[:3], tmp_path / "out", side=8, limit=10**6)
    content, last = shard.read_bytes(), stored_pictures(tmp_path / "out")
    end = max(picture.offset + -(-(picture.size or 0) // 512) * 512 for picture in last) + 1024
    assert len(last) == 3 and end < len(content)
    for length in [*range(0, end, 320), end - 1]:
        shard.write_bytes(content[:length])
        with pytest.raises(ImageError, match="is not a complete tar file: .*; copy or write it again"):
            stored_pictures(tmp_path / "out")
    shard.write_bytes(content[:end])  # further zeros are optional
    assert stored_pictures(tmp_path / "out") == last


@pytest.mark.parametrize(("place", "size", "kind"), [
    (0, (1 << 87) - 1, b"x"), (0, 1 << 45, b"x"), (1024, (1 << 87) - 1, b"0"), (1024, 1 << 20, b"0"),
    (1024, -512, b"Z")])
def test_damaged_sizes_are_refused(place: int, size: int, kind: bytes, tmp_path: Path) -> None:
    shard = bytearray(write_shard(tmp_path / "a.tar", [("é" * 60 + ".webp", b"content")]).read_bytes())
    shard[place + 124 : place + 136] = size.to_bytes(12, "big", signed=size < 0)
    shard[place + 124] |= 0x80  # no octal number
    shard[place + 156 : place + 157] = kind
    shard[place + 148 : place + 156] = b" " * 8
    shard[place + 148 : place + 156] = b"%06o\0 " % sum(shard[place : place + 512])
    (tmp_path / "a.tar").write_bytes(shard)
    with pytest.raises(ImageError, match="is not a complete tar file: .+; copy or write it again"):
        stored_pictures(tmp_path)


def test_a_shard_is_an_ordinary_tar(folder: Path, tmp_path: Path) -> None:
    (shard,) = write_shards(stored_pictures(folder), tmp_path, side=16, limit=10**6)
    with tarfile.open(shard) as tar:
        member = tar.getmembers()[0]
        content = tar.extractfile(member)
        with Image.open(content) as picture:
            assert picture.format == "WEBP" and picture.size == (16, 16)
