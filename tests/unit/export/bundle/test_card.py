from __future__ import annotations

from export.bundle.card import bundle_card

LICENCE = {"weights": "Research only.", "data": "Photographs."}


def test_a_card_states_what_is_known() -> None:
    card = bundle_card("tiny", "A network.", {"pictures_seen": 1234}, {**LICENCE, "prior": "random: none"}, ["More."])
    assert card.startswith("# tiny\n\nA network.\n\n**Research only.**\n\nTraining: 1,234 pictures seen.\n")
    assert "Data: Photographs.\n\nGenerator inside: random: none.\n\nMore.\n\n" in card
    assert card.endswith("plausible, not evidence.\n") and "\n\n\n" not in card


def test_unknown_facts_are_left_out() -> None:
    card = bundle_card("tiny", "A network.", {}, {})
    assert "Training" not in card and "Generator" not in card and "**Licence unknown.**" in card


def test_the_files_of_authors_are_listed() -> None:
    card = bundle_card("tiny", "A network.", {"converted_from": [{"file": "a.pth", "sha256": "00ff"}]}, LICENCE)
    assert "Converted from the files of its authors:\n\n- `a.pth`, SHA-256 00ff\n\n**" in card
