"""The journal: what was made is not made again, unless something it depends on changed."""

from pathlib import Path

import pytest

from edgegrain.evaluation.result_cache import Journal


def test_a_record_is_made_once_and_found_by_another_journal(tmp_path: Path) -> None:
    key = {"pixels": "ab", "budget": 560}
    assert Journal(tmp_path).recall(key, lambda: [1.5, {"psnr": float("inf")}]) == [1.5, {"psnr": float("inf")}]
    again = Journal(tmp_path)
    assert again.recall({"budget": 560, "pixels": "ab"}, lambda: pytest.fail("made twice")) == [
        1.5, {"psnr": float("inf")}]
    assert again.found == 1


def test_another_key_is_another_record(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    assert journal.recall({"budget": 560}, lambda: "a") == "a"
    assert journal.recall({"budget": 561}, lambda: "b") == "b"
    assert journal.recall({"budget": 560}, lambda: "c") == "a"
    assert journal.found == 1


@pytest.mark.parametrize("damage", [b"", b"{", b'{"key": {}, "value": 7}', b"[]", b"\xff"])
def test_a_damaged_record_is_made_anew(tmp_path: Path, damage: bytes) -> None:
    Journal(tmp_path).recall({"a": 1}, lambda: "first")
    (file,) = tmp_path.iterdir()
    file.write_bytes(damage)
    assert Journal(tmp_path).recall({"a": 1}, lambda: "second") == "second"
    assert Journal(tmp_path).recall({"a": 1}, lambda: "third") == "second"


def test_nothing_is_recorded_where_making_fails(tmp_path: Path) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Journal(tmp_path / "journal").recall({"a": 1}, interrupted)
    assert not (tmp_path / "journal").exists()
