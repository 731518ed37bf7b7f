from pathlib import Path
from typing import Any

import pytest

from codec_contract.bundle.manifest import load_manifest, verify_bundle
from codec_contract.errors import BundleError
from export.bundle.writer import bundle_card, refuse_to_replace, state_enlarger, update_card, with_kept
from tests.tiny_bundle import files_of, write_tiny_bundle


def test_a_card_changes_itself_and_the_evaluation_only(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path)
    (folder / "notes.txt").write_text("not for others")
    before, listed = files_of(folder), load_manifest(folder).files
    manifest = update_card(folder, evaluation={"pictures": 3}, card="# A new card")
    after = files_of(folder)
    assert manifest == verify_bundle(folder) and manifest.evaluation == {"pictures": 3}
    assert manifest.open_file("README.md") == b"# A new card"
    assert {name for name in after if after[name] != before.get(name)} == {"README.md", "manifest.json"}
    assert set(after) == set(before) and set(manifest.files) == set(listed)
    assert [name for name in listed if listed[name] != manifest.files[name]] == ["README.md"]


@pytest.mark.parametrize("large", ["card", "manifest"])
def test_a_change_that_finds_no_space_leaves_the_bundle_as_it_was(tmp_path: Path, large: str) -> None:
    resource = pytest.importorskip("resource")  # of POSIX
    folder = write_tiny_bundle(tmp_path)
    before, limits = files_of(folder), resource.getrlimit(resource.RLIMIT_FSIZE)
    evaluation, card = ({}, "c" * 50_000) if large == "card" else ({"methods": "m" * 50_000}, "card")
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))  # longer files fail as on a full disk
    try:
        with pytest.raises(OSError, match="too large"):
            update_card(folder, evaluation=evaluation, card=card)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert files_of(folder) == before


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


def test_an_id_or_version_is_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"'My_Faces' is no valid id of a bundle.* such as my-faces"):
        refuse_to_replace(tmp_path / "My_Faces", False)
    refuse_to_replace(tmp_path / "My_Faces", False, "my-faces")
    with pytest.raises(BundleError, match="'Mine' is no valid id"):
        refuse_to_replace(tmp_path / "my-faces", False, "Mine")
    with pytest.raises(BundleError, match=r"'1\.0 beta' is no valid version of a bundle.* such as 1\.0\.0"):
        refuse_to_replace(tmp_path / "my-faces", False, version="1.0 beta")


LICENCE = {"weights": "Research only.", "data": "Photographs."}


def fields(training: dict[str, Any] | None = None, licence: dict[str, str] = LICENCE) -> dict[str, Any]:
    return {"id": "tiny", "training": training or {}, "licence": licence}


def test_a_card_states_what_is_known() -> None:
    card = bundle_card(fields({"pictures_seen": 1234}, {**LICENCE, "prior": "random: none"}), "A network.", ["More."])
    beginning = "# tiny\n\nA network.\n\n**Licence.** Research only.\n\n## Training\n\n1,234 pictures seen.\n\n"
    assert card.startswith(beginning)
    assert "Data: Photographs.\n\nGenerator inside: random: none.\n\nMore.\n\n" in card
    assert card.endswith("plausible, not evidence.\n") and "\n\n\n" not in card and "## Evaluation" not in card


def test_unknown_facts_are_left_out() -> None:
    card = bundle_card(fields(licence={}), "A network.")
    assert "## Training\n\nData: unknown\n" in card and "Generator" not in card and "**Licence.** Unknown." in card


def test_the_files_of_authors_are_listed() -> None:
    card = bundle_card(fields({"converted_from": [{"file": "a.pth", "sha256": "00ff"}]}), "A network.")
    assert "Converted from the files of its authors:\n\n- `a.pth`, SHA-256 00ff\n\n**" in card


def test_a_record_and_an_evaluation_have_their_places() -> None:
    more = {"record": "Trained once.", "caveat": "Be careful.", "evaluation": ["| method |", "|---|", ""]}
    card = bundle_card(fields({"pictures_seen": 5}), "A network.", **more)
    assert "## Training\n\nTrained once.\n\nData: Photographs.\n\nBe careful.\n\n## Evaluation\n\n| method |" in card
    assert "5 pictures" not in card and card.endswith("|---|\n")


def test_the_licence_of_another_bundle_s_enlarger_follows_that_of_the_weights() -> None:
    licences = LICENCE, {**LICENCE, "enlarger": "that of faces."}
    card, held = (bundle_card(fields(licence=licence), "A network.") for licence in licences)
    assert "**Licence.** Research only.\n\nEnlarger inside: that of faces.\n\n## Training" in held
    assert state_enlarger(card, "that of faces.") == state_enlarger(held, "that of faces.") == held
    assert state_enlarger(held, None) == state_enlarger(card, None) == card
    assert state_enlarger("No template.\n", "any") == "No template.\n\nEnlarger inside: any\n"


KEPT = {"weights": "Apache-2.0.", "data": "FFHQ.", "prior": "ours", "enlarger": "that of faces"}


def test_the_kept_parts_licence_stays_and_the_new_ones_is_added_where_it_differs() -> None:
    kept = {"weights": "Apache-2.0.", "data": "FFHQ.", "enlarger": "that of faces"}
    assert with_kept(KEPT, {}, "Decoder") == kept
    found = with_kept(KEPT, {"weights": "Apache-2.0.", "data": "Own photographs."}, "Decoder")
    assert found == {**kept, "data": "FFHQ. Decoder: Own photographs."}
