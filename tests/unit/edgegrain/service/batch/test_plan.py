"""``edgegrain batch``: accepted names, names of results, skipped names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from codec_contract.payload import MAGIC
from edgegrain.service.batch.folder_store import FolderStore
from edgegrain.service.batch.plan import BatchPlan, Tally, candidates, find_verb, pending_batches
from edgegrain.service.batch.store import OnUnlisted, ignore


def plan(verb: str = "compress", **changes: object) -> BatchPlan:
    fields: dict[str, object] = {
        "source": "in", "target": "out", "verb": verb, "bundle": "tiny", "folder": "tiny", "options": {},
        "suffix": ".grain" if verb == "compress" else ".png", **changes}
    return BatchPlan(**fields)  # type: ignore[arg-type]


class Endless:
    """A source with an unlimited number of names that counts those that were read."""

    def __init__(self) -> None:
        self.listed = 0

    def names(self, report: OnUnlisted = ignore) -> Iterator[str]:
        while True:
            self.listed += 1
            yield f"{self.listed}.jpg"

    def present(self, names: Sequence[str]) -> set[str]:
        return set()


def test_results_never_share_a_name() -> None:
    assert [plan().result(name) for name in ("a.jpg", "a.png", "b/a.jpg")] == [
        "a.jpg.grain", "a.png.grain", "b/a.jpg.grain"]
    assert [plan("restore").result(name) for name in ("a.grain", "a.jpg.grain", "a.GRAIN")] == [
        "a.png", "a.jpg.png", "a.GRAIN.png"]


def test_candidates_by_suffix() -> None:
    names = ["a.JPG", "b.grain", "c.txt", "d", "e/f.webp"]
    assert list(candidates(iter(names), "compress")) == ["a.JPG", "e/f.webp"]
    assert list(candidates(iter(names), "restore")) == ["b.grain"]
    assert list(candidates(iter(names), None)) == ["a.JPG", "b.grain", "e/f.webp"]


@pytest.mark.parametrize(("files", "verb"), [
    ({"a.jpg": b"any", "b.png": b"any"}, "compress"),
    ({"a.grain": MAGIC + b"any"}, "restore"),
    ({"a.jpg": MAGIC + b"any"}, "restore"),  # its content counts, not its name
    ({"a.jpg": b"any", "b.grain": MAGIC + b"any"}, None),
    ({"a.jpg": b"any", "b.grain": b"damaged"}, "compress"),
    ({"b.grain": b"damaged"}, "restore"),
    ({"c.txt": b"any"}, None),
])
def test_verb_by_content(tmp_path: Path, files: dict[str, bytes], verb: str | None) -> None:
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    assert find_verb(FolderStore(tmp_path)) == verb


def test_results_in_the_source_are_no_input(tmp_path: Path) -> None:
    source, target = FolderStore(tmp_path), FolderStore(tmp_path / "a" / "out")
    for name in ("z.png", "a/outer.png"):
        source.write(name, b"any")
    for index in range(150):  # more than the sample
        target.write(f"{index}.png.grain", MAGIC + b"any")
    target.write("old.png", b"a picture of an earlier run")
    assert find_verb(source) != "compress"  # None or "restore", as the folder happens to be listed
    assert find_verb(source, "a/out") == "compress"
    (part,) = pending_batches(plan(results="a/out"), source, target)
    assert sorted(part.names) == ["a/outer.png", "z.png"] and part.counts.listed == 2


@pytest.mark.parametrize(("files", "verb"), [
    ({"a.png": b"any", "a.png.grain": MAGIC, "b.png": b"any"}, "compress"), ({"a.grain": MAGIC}, "restore"),
    ({"a.png": MAGIC, "b.grain": MAGIC}, "restore"), ({"a.png": MAGIC, "b.png": b"any"}, None)])
def test_verb_if_results_are_written_next_to_pictures(
    tmp_path: Path, files: dict[str, bytes], verb: str | None
) -> None:
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    assert find_verb(FolderStore(tmp_path), "") == verb


def test_listing_is_lazy() -> None:
    source = Endless()
    batches = pending_batches(plan(batch_size=4), source, source)  # type: ignore[arg-type]
    assert next(batches) == (["1.jpg", "2.jpg", "3.jpg", "4.jpg"], Tally())
    assert source.listed == 1000
    for _ in range(250):
        next(batches)
    assert source.listed == 2000


def test_what_is_done_is_skipped(tmp_path: Path) -> None:
    source, target = FolderStore(tmp_path / "in"), FolderStore(tmp_path / "out")
    for name in "abcde":
        source.write(f"{name}.png", b"")
    target.write("b.png.grain", b"")
    target.write("c.png.grain", b"")
    found = list(pending_batches(plan(batch_size=2), source, target))
    assert sorted(name for part in found for name in part.names) == ["a.png", "d.png", "e.png"]
    assert (sum(part.counts.skipped for part in found), [part.counts.listed for part in found]) == (2, [0, 5])
    found = list(pending_batches(plan(batch_size=2, force=True), source, target))
    assert sum(len(part.names) for part in found) == 5 and not any(part.counts.skipped for part in found)


def test_long_stretches_of_done_names_are_counted_on_the_way() -> None:
    class Done(Endless):
        def present(self, names: Sequence[str]) -> set[str]:
            return set(names)

    source = Done()
    batches = pending_batches(plan(), source, source)  # type: ignore[arg-type]
    assert [next(batches) for _ in range(3)] == [([], Tally(skipped=1000))] * 3


def test_folders_that_cannot_be_listed_are_failures(tmp_path: Path) -> None:
    class Locked(FolderStore):
        def names(self, report: OnUnlisted = ignore) -> Iterator[str]:
            for index in range(3):
                report(f"locked{index}", PermissionError(13, "Permission denied"))
                yield f"{index}.png"

    found = list(pending_batches(plan(batch_size=2), Locked(tmp_path), FolderStore(tmp_path)))
    total = Tally()
    for part in found:
        total.add(part.counts)
    assert [part.names for part in found] == [["0.png", "1.png"], ["2.png"]]
    assert (total.failed, total.listed, total.skipped) == (3, 6, 0)
    assert total.failures[2] == {"name": "locked2", "error": "[Errno 13] Permission denied"}


def test_tallies_add_up_and_keep_few_failures() -> None:
    total = Tally()
    for index in range(5):
        part = Tally(done=2, skipped=1, bytes_in=10, bytes_out=3)
        part.fail(f"{index}.png", OSError("two\nlines"))
        total.add(part, keep=2)
    assert (total.done, total.skipped, total.failed, total.bytes_in, total.bytes_out) == (10, 5, 5, 50, 15)
    assert total.failures == [{"name": "0.png", "error": "two lines"}, {"name": "1.png", "error": "two lines"}]


def test_names_that_are_no_text_can_be_reported() -> None:
    tally = Tally()
    tally.fail("\udcff.png", OSError(""))
    assert tally.failures == [{"name": "\\udcff.png", "error": "OSError"}]
