from __future__ import annotations

from typing import Any

from export.bundle.writer import bundle_card, state_enlarger, with_kept

LICENCE = {"weights": "Research only.", "data": "Photographs."}


def fields(training: dict[str, Any] | None = None, licence: dict[str, str] = LICENCE) -> dict[str, Any]:
    return {"id": "tiny", "training": training or {}, "licence": licence}


def test_a_card_states_what_is_known() -> None:
    card = bundle_card(fields({"pictures_seen": 1234}, {**LICENCE, "prior": "random: none"}), "A network.", ["More."])
    assert card.startswith(
        "# tiny\n\nA network.\n\n**Licence.** Research only.\n\n## Training\n\n1,234 pictures seen.\n\n")
    assert "Data: Photographs.\n\nGenerator inside: random: none.\n\nMore.\n\n" in card
    assert card.endswith("plausible, not evidence.\n") and "\n\n\n" not in card and "## Evaluation" not in card


def test_unknown_facts_are_left_out() -> None:
    card = bundle_card(fields(licence={}), "A network.")
    assert "## Training\n\nData: unknown\n" in card and "Generator" not in card and "**Licence.** Unknown." in card


def test_the_files_of_authors_are_listed() -> None:
    card = bundle_card(fields({"converted_from": [{"file": "a.pth", "sha256": "00ff"}]}), "A network.")
    assert "Converted from the files of its authors:\n\n- `a.pth`, SHA-256 00ff\n\n**" in card


def test_a_record_and_an_evaluation_have_their_places() -> None:
    card = bundle_card(fields({"pictures_seen": 5}), "A network.", record="Trained once.", caveat="Be careful.",
                       evaluation=["| method |", "|---|", ""])
    assert "## Training\n\nTrained once.\n\nData: Photographs.\n\nBe careful.\n\n## Evaluation\n\n| method |" in card
    assert "5 pictures" not in card and card.endswith("|---|\n")


def test_the_licence_of_another_bundle_s_enlarger_follows_that_of_the_weights() -> None:
    card, held = (bundle_card(fields(licence=licence), "A network.")
                  for licence in (LICENCE, {**LICENCE, "enlarger": "that of faces."}))
    assert "**Licence.** Research only.\n\nEnlarger inside: that of faces.\n\n## Training" in held
    assert state_enlarger(card, "that of faces.") == state_enlarger(held, "that of faces.") == held
    assert state_enlarger(held, None) == state_enlarger(card, None) == card
    assert state_enlarger("No template.\n", "any") == "No template.\n\nEnlarger inside: any\n"


KEPT = {"weights": "Apache-2.0.", "data": "FFHQ.", "prior": "ours", "enlarger": "that of faces"}


def test_the_kept_parts_licence_stays_and_the_new_ones_is_added_where_it_differs() -> None:
    assert with_kept(KEPT, {"weights": "Apache-2.0.", "data": "Own photographs."}, "Decoder") == {
        "weights": "Apache-2.0.", "data": "FFHQ. Decoder: Own photographs.", "enlarger": "that of faces"}
    assert with_kept(KEPT, {}, "Decoder") == {"weights": "Apache-2.0.", "data": "FFHQ.", "enlarger": "that of faces"}
