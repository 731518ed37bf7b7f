"""Files and folders are written whole or not at all, and only replaced on request."""

import copy
import os
import stat
from pathlib import Path

import pytest

from codec_contract import files
from codec_contract.errors import ExistsError
from codec_contract.files import replace_folder, write_atomically, written_whole


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = write_atomically(tmp_path / "file", b"old")
    with pytest.raises(KeyboardInterrupt), written_whole(path) as temporary:
        temporary.write_bytes(b"half")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_an_error_names_the_file_that_was_asked_for(tmp_path: Path) -> None:
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    with pytest.raises(OSError) as caught:
        write_atomically(tmp_path / "folder", b"new", force=True)
    assert caught.value.filename == str(tmp_path / "folder")
    assert str(caught.value).endswith(f"'{tmp_path / 'folder'}'")


@pytest.mark.skipif(os.name != "posix", reason="file modes of POSIX")
def test_permissions_are_those_of_a_new_file_and_names_may_be_long(tmp_path: Path) -> None:
    ordinary = tmp_path / "ordinary"
    ordinary.touch()
    path = write_atomically(tmp_path / ("n" * 255), b"data")
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(ordinary.stat().st_mode)


def test_a_folder_takes_the_place_of_another_or_it_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new, folder = tmp_path / "new", tmp_path / "folder"
    for content in ("first", "second"):
        new.mkdir()
        (new / content).touch()
        replace_folder(new, folder)
        assert [path.name for path in folder.iterdir()] == [content] and list(tmp_path.iterdir()) == [folder]
    new.mkdir()
    rename = os.replace

    def fails_once(source: Path, target: Path) -> None:
        if Path(source) == new:
            raise PermissionError("in use")
        rename(source, target)

    monkeypatch.setattr(files.os, "replace", fails_once)
    with pytest.raises(PermissionError):
        replace_folder(new, folder)
    assert (folder / "second").exists() and new.exists() and len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("name", ["link", "."])
def test_the_folder_behind_a_name_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    new, folder, link = tmp_path / "new", tmp_path / "elsewhere" / "folder", tmp_path / "link"
    folder.mkdir(parents=True)
    link.symlink_to(folder)
    new.mkdir()
    (new / "content").touch()
    monkeypatch.chdir(folder if name == "." else tmp_path)
    replace_folder(new, Path(name))
    assert link.is_symlink() and [path.name for path in folder.iterdir()] == ["content"]
    assert list(folder.parent.iterdir()) == [folder] and list(tmp_path.iterdir()) == [folder.parent, link]


def test_the_error_of_a_file_that_exists_crosses_processes(tmp_path: Path) -> None:
    error = copy.copy(ExistsError(tmp_path / "a.png", "choose another --out"))  # as pickle does
    assert (error.path, error.advice) == (str(tmp_path / "a.png"), "choose another --out")
    assert str(error) == f"{tmp_path / 'a.png'} exists; choose another --out"
