"""Folders and object stores: listed bit by bit, written whole or not at all, one run at a time."""

import sys
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from codec_contract.errors import EdgegrainError, ServiceError
from edgegrain.stores import STAGING, Store


@pytest.fixture(params=["folder", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder, and one of fsspec's object store in memory."""
    monkeypatch.setattr(MemoryFileSystem, "store", {})
    monkeypatch.setattr(MemoryFileSystem, "pseudo_dirs", [""])
    return str(tmp_path / "bucket") if request.param == "folder" else "memory://bucket"


def names(store: Store) -> list[str]:
    return sorted(store.names(lambda *_: None))


def test_what_was_written_is_listed_and_read(place: str) -> None:
    store = Store(place)
    assert not store.has("a.png")
    for name in ("a.png", "b/c.png", "b/d/e.png", ".hidden/f.png", "b/.g.png"):
        store.write(name, b"first")
    store.write("a.png", b"second")
    assert names(store) == ["a.png", "b/c.png", "b/d/e.png"]
    assert (store.read("a.png", 10), store.read("b/c.png", 3)) == (b"second", b"fir")
    store = Store(place)
    assert [store.has(name) for name in ("a.png", "b", "b/c.png", "b/x", "none/a")] == [True, False, True, False, False]
    with pytest.raises(OSError):
        store.read("missing", 10)


def test_names_of_other_stores(place: str) -> None:
    store = Store(place)
    assert [store.name_of(Store(f"{place}{path}")) for path in ("", "/", "/a", "/a/b c")] == ["", "", "a", "a/b c"]
    assert store.name_of(Store(f"{place}2")) is None and Store(f"{place}/a").name_of(store) is None
    assert store.name_of(Store("memory://bucket" if store.folder else "bucket")) is None


def test_folders_that_cannot_be_listed_are_reported(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store, locked, reported = Store(place), {"locked"}, dict[str, Exception]()
    for name in ("a.png", "locked/c.png", "z/d.png"):
        store.write(name, b"")
    entries = Store._entries
    monkeypatch.setattr(
        Store, "_entries", lambda store, folder: entries(store, folder) if folder not in locked else 1 / 0
    )  # any error of a library
    assert sorted(store.names(reported.__setitem__)) == ["a.png", "z/d.png"] and reported.keys() == {"locked"}
    locked.add("")
    with pytest.raises(OSError, match="cannot list .*bucket: division by zero"):
        names(store)


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "taken" / "inside").mkdir(parents=True)
    for name in ("file/below", "taken", 255 * "a" + ".grain"):
        with pytest.raises(OSError):
            Store(str(tmp_path)).write(name, b"data")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["file"]


def test_links_are_not_followed_but_resolved(tmp_path: Path) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "a.png").write_bytes(b"")
    (tmp_path / "in" / "round").symlink_to(tmp_path / "in")
    (tmp_path / "link").symlink_to("in")
    store = Store(str(tmp_path / "link"))
    assert names(store) == ["a.png", "round"]
    assert store.name_of(Store(str(tmp_path / "in" / "deep" / "out"))) == "deep/out"


def test_a_folder_is_held_once_and_cleared_of_what_a_killed_run_left(tmp_path: Path) -> None:
    store = Store(tmp_path.as_uri())
    (tmp_path / STAGING).mkdir()
    (tmp_path / STAGING / "half").write_bytes(b"ha")
    with store.held():
        assert not (tmp_path / STAGING).exists()
        with pytest.raises(EdgegrainError, match="another process writes to"), store.held():
            pass
        store.write("a", b"whole")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("place", ["nonsense://bucket", "s3://bucket"])
def test_places_without_a_library(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(ServiceError, match=f"cannot open {place}: .*s3fs, gcsfs, adlfs"):
        Store(place)
