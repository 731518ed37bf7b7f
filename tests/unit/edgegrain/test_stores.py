"""Folders and object stores: listed bit by bit, written whole or not at all, one run at a time."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from codec_contract.errors import ServiceError
from edgegrain.pictures.writing import InUseError
from edgegrain.stores import STAGING, ArrowStore, FolderStore, OnUnlisted, Store, open_store
from tests.unit.edgegrain.conftest import lock


@pytest.fixture(params=["folder", "arrow"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> FolderStore | ArrowStore:
    if request.param == "folder":
        return FolderStore(tmp_path)
    fs = pytest.importorskip("pyarrow.fs", reason="needs the extra ray")
    return ArrowStore(fs.LocalFileSystem(), str(tmp_path))


def listed(store: Store, report: OnUnlisted = lambda *_: None) -> list[str]:
    return sorted(store.names(report))


def everything(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_names_at_any_depth(store: FolderStore | ArrowStore, tmp_path: Path) -> None:
    for name in ("a.png", "b/c.png", "b/d/e.png", ".hidden/f.png", "b/.g.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert listed(store) == ["a.png", "b/c.png", "b/d/e.png"]


def test_written_files_are_read_back_and_replaced(store: FolderStore | ArrowStore, tmp_path: Path) -> None:
    store.write("x/y.grain", b"first")
    store.write("x/y.grain", b"second")
    assert (store.read("x/y.grain", 10), store.read("x/y.grain", 3)) == (b"second", b"sec")
    assert {name for name in everything(tmp_path) if STAGING not in name} == {"x/y.grain"}


def test_names_of_other_stores(store: FolderStore | ArrowStore, tmp_path: Path) -> None:
    def at(path: Path) -> FolderStore | ArrowStore:
        return FolderStore(path) if isinstance(store, FolderStore) else ArrowStore(store._system, str(path))

    inner = (tmp_path, tmp_path / "a", tmp_path / "a" / "b c")
    assert [store.name_of(at(path)) for path in inner] == ["", "a", "a/b c"]
    assert store.name_of(at(tmp_path.parent)) is None
    assert store.name_of(at(tmp_path.with_name(f"{tmp_path.name}2"))) is None
    assert at(Path("/")).name_of(at(Path("/a"))) == "a"


def test_names_of_folders_behind_links(tmp_path: Path) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to("in")
    assert FolderStore(tmp_path / "link").name_of(FolderStore(tmp_path / "in" / "deep" / "out")) == "deep/out"
    assert FolderStore(tmp_path / "in").name_of(FolderStore(tmp_path / "link")) == ""


def test_names_of_object_stores(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow.fs", reason="needs the extra ray")
    store = open_store("fsspec+memory://bucket/photos/")
    assert store.name_of(open_store("fsspec+memory://bucket/photos/out/")) == "out"
    assert store.name_of(open_store("fsspec+memory://bucket/photos//")) == ""
    assert store.name_of(open_store("fsspec+memory://bucket/photos2")) is None
    assert store.name_of(FolderStore(tmp_path)) is None and FolderStore(tmp_path).name_of(store) is None


def test_present(store: FolderStore | ArrowStore) -> None:
    store.write("a", b"")
    store.write("x/b", b"")
    assert store.present(["a", "b", "x/a", "x/b", "none/a"]) == {"a", "x/b"}


def test_a_name_that_is_too_long_is_not_present(store: FolderStore | ArrowStore, tmp_path: Path) -> None:
    name = 255 * "a" + ".grain"
    store.write("b.grain", b"")
    assert store.present([name, "b.grain"]) == {"b.grain"}
    with pytest.raises(OSError):
        store.write(name, b"data")
    assert everything(tmp_path) == {"b.grain"}


def test_failures_are_oserrors_and_leave_nothing(store: FolderStore | ArrowStore, tmp_path: Path) -> None:
    with pytest.raises(OSError):
        store.read("missing", 10)
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "taken" / "inside").mkdir(parents=True)
    for name in ("file/below", "taken"):
        with pytest.raises(OSError):
            store.write(name, b"data")
    assert everything(tmp_path) == {"file"}


def test_links_to_folders_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "round").symlink_to(tmp_path)
    assert listed(FolderStore(tmp_path)) == ["a.png"]


def test_folders_that_cannot_be_listed_are_reported(
    store: FolderStore | ArrowStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.png", "gone/b.png", "locked/c.png", "z/d.png"):
        store.write(name, b"")
    shutil.rmtree(tmp_path / STAGING, ignore_errors=True)
    refuse(monkeypatch, store, {"locked", "gone"})
    reported: dict[str, OSError] = {}
    assert listed(store, reported.__setitem__) == ["a.png", "z/d.png"]
    assert reported.keys() == {"locked", "gone"} and all(isinstance(each, OSError) for each in reported.values())
    assert listed(store) == ["a.png", "z/d.png"]
    refuse(monkeypatch, store, {""})
    with pytest.raises(OSError):
        listed(store)


def refuse(monkeypatch: pytest.MonkeyPatch, store: FolderStore | ArrowStore, folders: set[str]) -> None:
    """Make listing these folders of a store fail, also for root."""
    if isinstance(store, ArrowStore):
        listing = ArrowStore._list

        def refused(store: ArrowStore, folder: str) -> list[tuple[str, bool]]:
            if folder in folders:
                raise OSError(f"{folder} is not yours")
            return listing(store, folder)

        monkeypatch.setattr(ArrowStore, "_list", refused)
        return
    for folder in folders:
        lock(monkeypatch, store.root / folder)


def test_a_folder_is_held_once_and_cleared_of_what_a_killed_run_left(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "out")
    (tmp_path / "out" / STAGING).mkdir(parents=True)
    (tmp_path / "out" / STAGING / "half").write_bytes(b"ha")
    for _ in range(2):
        with store.held():
            assert not (tmp_path / "out" / STAGING).exists()
            with pytest.raises(InUseError, match="another process writes to"), store.held():
                pass
            store.write("a", b"whole")
            assert (tmp_path / "out" / STAGING).exists()
        assert everything(tmp_path) == {"out/a"}


def test_places(tmp_path: Path) -> None:
    folder = open_store((tmp_path / "with space").as_uri())
    assert isinstance(folder, FolderStore) and folder.root == tmp_path / "with space"
    assert isinstance(open_store("some/folder"), FolderStore)
    pytest.importorskip("pyarrow.fs", reason="needs the extra ray")
    with pytest.raises(ServiceError, match="cannot open nonsense://bucket"):
        open_store("nonsense://bucket")


def test_fsspec(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow.fs", reason="needs the extra ray")
    store = open_store("fsspec+memory://bucket/folder")
    store.write("a/b.grain", b"data")
    assert (listed(store), store.read("a/b.grain", 10)) == (["a/b.grain"], b"data")
    assert store.present(["a/b.grain", "b.grain"]) == {"a/b.grain"}
