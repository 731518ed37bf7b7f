from __future__ import annotations

from pathlib import Path

import pytest

from codec_contract.bundle.manifest import load_manifest, verify_bundle
from codec_contract.errors import BundleError
from export.bundle.writer import refuse_to_replace, update_card
from tests.tiny_bundle import write_tiny_bundle


def _files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_card_changes_itself_and_the_evaluation_only(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path)
    (folder / "notes.txt").write_text("not for others")
    before, listed = _files(folder), load_manifest(folder).files
    manifest = update_card(folder, evaluation={"pictures": 3}, card="# A new card")
    after = _files(folder)
    assert manifest == verify_bundle(folder) and manifest.evaluation == {"pictures": 3}
    assert manifest.open_file("README.md") == b"# A new card"
    assert {name for name in after if after[name] != before.get(name)} == {"README.md", "manifest.json"}
    assert set(after) == set(before) and set(manifest.files) == set(listed)
    assert [name for name in listed if listed[name] != manifest.files[name]] == ["README.md"]


@pytest.mark.parametrize("large", ["card", "manifest"])
def test_a_change_that_finds_no_space_leaves_the_bundle_as_it_was(tmp_path: Path, large: str) -> None:
    resource = pytest.importorskip("resource")  # of POSIX
    folder = write_tiny_bundle(tmp_path)
    before, limits = _files(folder), resource.getrlimit(resource.RLIMIT_FSIZE)
    evaluation, card = ({}, "c" * 50_000) if large == "card" else ({"methods": "m" * 50_000}, "card")
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))  # longer files fail as on a full disk
    try:
        with pytest.raises(OSError, match="too large"):
            update_card(folder, evaluation=evaluation, card=card)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert _files(folder) == before


def test_only_a_bundle_is_replaced(tmp_path: Path) -> None:
    """A forgotten name must not delete a folder of bundles or of pictures."""
    bundle = write_tiny_bundle(tmp_path)
    refuse_to_replace(bundle, True)
    refuse_to_replace(tmp_path / "new", False)
    with pytest.raises(FileExistsError, match="force=True"):
        refuse_to_replace(bundle, False)
    for other in (tmp_path, bundle / "manifest.json"):
        with pytest.raises(BundleError, match="is no bundle .* not replaced"):
            refuse_to_replace(other, True)
    (tmp_path / "empty").mkdir()
    refuse_to_replace(tmp_path / "empty", True)


def test_files_that_a_bundle_does_not_list_are_not_lost(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path)
    notes = folder / "notes" / "today.txt"
    notes.parent.mkdir()
    notes.write_text("keep me")
    with pytest.raises(BundleError, match=r"holds notes/today\.txt, which its manifest\.json does not list"):
        refuse_to_replace(folder, True)
    notes.unlink()
    refuse_to_replace(folder, True)
    (folder / "manifest.json").write_text("{")
    with pytest.raises(BundleError, match=r"holds README\.md, \.\.\., which"):
        refuse_to_replace(folder, True)


def test_an_id_or_version_is_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"'My_Faces' is no valid id of a bundle.* such as my-faces"):
        refuse_to_replace(tmp_path / "My_Faces", False)
    refuse_to_replace(tmp_path / "My_Faces", False, "my-faces")
    with pytest.raises(BundleError, match="'Mine' is no valid id"):
        refuse_to_replace(tmp_path / "my-faces", False, "Mine")
    with pytest.raises(BundleError, match=r"'1\.0 beta' is no valid version of a bundle.* such as 1\.0\.0"):
        refuse_to_replace(tmp_path / "my-faces", False, version="1.0 beta")
