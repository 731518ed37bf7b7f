"""The cache: a result is not computed again unless something it depends on changed."""

from pathlib import Path

import pytest

from edgegrain.evaluation.result_cache import ResultCache


def test_a_record_is_computed_once_and_found_by_another_cache(tmp_path: Path) -> None:
    key = {"pixels": "ab", "budget": 560}
    value = [1.5, {"psnr": float("inf")}]
    assert ResultCache(tmp_path).get_or_compute(key, lambda: value) == value
    again = ResultCache(tmp_path)
    assert again.get_or_compute({"budget": 560, "pixels": "ab"}, lambda: pytest.fail("computed twice")) == value
    assert again.hits == 1


def test_another_key_is_another_record(tmp_path: Path) -> None:
    cache = ResultCache(tmp_path)
    assert cache.get_or_compute({"budget": 560}, lambda: "a") == "a"
    assert cache.get_or_compute({"budget": 561}, lambda: "b") == "b"
    assert cache.get_or_compute({"budget": 560}, lambda: "c") == "a"
    assert cache.hits == 1


@pytest.mark.parametrize("damage", [b"", b"{", b'{"key": {}, "value": 7}', b"[]", b"\xff"])
def test_a_damaged_record_is_computed_again(tmp_path: Path, damage: bytes) -> None:
    ResultCache(tmp_path).get_or_compute({"a": 1}, lambda: "first")
    (file,) = tmp_path.iterdir()
    file.write_bytes(damage)
    assert ResultCache(tmp_path).get_or_compute({"a": 1}, lambda: "second") == "second"
    assert ResultCache(tmp_path).get_or_compute({"a": 1}, lambda: "third") == "second"


def test_nothing_is_recorded_where_computing_fails(tmp_path: Path) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ResultCache(tmp_path / "cache").get_or_compute({"a": 1}, interrupted)
    assert not (tmp_path / "cache").exists()
