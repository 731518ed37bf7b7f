"""``edgegrain batch``: names and results, a worker, and a run on a Ray that is replaced here."""

import itertools
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sdk
from codec_contract.errors import BundleError, ServiceError
from edgegrain import batch
from edgegrain.batch import BatchPlan, Tally, Worker, pending_batches, ray_cluster, tallies
from edgegrain.stores import Store, candidates
from sdk.open_bundle import OpenBundle
from tests.tiny_bundle import HR, write_tiny_bundle


def plan(verb: str = "compress", **changes: object) -> BatchPlan:
    suffix = ".grain" if verb == "compress" else ".png"
    return replace(BatchPlan("in", "out", verb, ["tiny"], suffix), **changes)  # type: ignore[arg-type]


def at(place: Path, folder: Path, verb: str) -> BatchPlan:
    return plan(verb, source=str(place / "in"), target=str(place / "out"), bundles=[str(folder)], max_pixels=10_000)


def pending(plan: BatchPlan, source: Store, target: Store) -> tuple[list[list[str]], Tally]:
    total = Tally()
    return list(pending_batches(plan, source, target, total.add)), total


def write_pictures(folder: Path) -> dict[str, np.ndarray]:
    """20 pictures below ``folder``: more than a worker reads at once."""
    (folder / "deep").mkdir(parents=True)
    random = np.random.default_rng(5)
    found = {f"deep/{index}.png": random.integers(0, 256, (HR, HR, 3), dtype=np.uint8) for index in range(20)}
    for name, rgb in found.items():
        Image.fromarray(rgb).save(folder / name)
    return found


def test_results_never_share_a_name() -> None:
    for name in ("a.jpg", "a.png", "b/a.jpg"):
        assert plan().result(name) == f"{name}.grain"
    names = {"a.grain": "a.png", "a.jpg.grain": "a.jpg.png", "a.GRAIN": "a.GRAIN.png"}
    assert [plan("restore").result(name) for name in names] == list(names.values())


def test_candidates_by_suffix() -> None:
    names = ["a.JPG", "b.grain", "c.txt", "d", "e/f.webp"]
    assert list(candidates(iter(names), "compress")) == ["a.JPG", "e/f.webp"]
    assert list(candidates(iter(names), "restore")) == ["b.grain"]
    assert list(candidates(iter(names), None)) == ["a.JPG", "b.grain", "e/f.webp"]


def test_listing_is_lazy() -> None:
    numbers = itertools.count()
    source: Any = SimpleNamespace(names=lambda report: map("{}.jpg".format, numbers), has=lambda name: name[0] == "1")
    skipped: list[Tally] = []
    batches = pending_batches(plan(batch_size=2), source, source, skipped.append)
    assert next(batches) == ["0.jpg", "2.jpg"] and next(numbers) == 3 and skipped == [Tally(skipped=1)]


def test_names_that_are_no_text_can_be_reported() -> None:
    tally = Tally()
    tally.fail("\udcff.png", OSError(""))
    tally.fail("a.png", OSError("two\nlines"))
    assert tally.failures == [{"name": "\\udcff.png", "error": "OSError"}, {"name": "a.png", "error": "two lines"}]


class TestWorker:
    def test_there_and_back(self, tmp_path: Path) -> None:
        folder, pictures = write_tiny_bundle(tmp_path), write_pictures(tmp_path / "in")
        (tmp_path / "in" / "damaged.png").write_bytes(b"\x89PNG and so on")
        Image.new("RGB", (101, 100)).save(tmp_path / "in" / "huge.png")
        (tmp_path / "out" / "taken.png.grain").mkdir(parents=True)  # a result that cannot be written
        (tmp_path / "in" / "taken.png").write_bytes((tmp_path / "in" / "deep" / "0.png").read_bytes())
        refused = ["damaged.png", "huge.png", "missing.png", "taken.png"]
        tally = Worker(at(tmp_path, folder, "compress")).work([*pictures, *refused])
        codec = sdk.Codec(folder)
        written = {name: (tmp_path / "out" / f"{name}.grain").read_bytes() for name in pictures}
        assert written == {name: codec.compress(rgb) for name, rgb in pictures.items()}
        assert (tally.done, tally.skipped, tally.failed) == (20, 0, 4)
        assert tally.bytes_in == sum((tmp_path / "in" / name).stat().st_size for name in pictures)
        assert tally.bytes_out == sum(map(len, written.values()))
        errors = {failure["name"]: failure["error"] for failure in tally.failures}
        assert errors.keys() == set(refused)
        assert "No such file" in errors["missing.png"] and "10000" in errors["huge.png"].replace(",", "")

        (tmp_path / "out" / "damaged.grain").write_bytes(b"\xed\x6e")
        back = replace(at(tmp_path, folder, "restore"), source=str(tmp_path / "out"), target=str(tmp_path / "back"))
        tally = Worker(back).work([*(f"{name}.grain" for name in pictures), "damaged.grain"])
        assert (tally.done, tally.failed, tally.failures[0]["name"]) == (20, 1, "damaged.grain")
        for name, payload in written.items():
            with Image.open(tmp_path / "back" / f"{name}.png") as restored:
                assert np.array_equal(np.asarray(restored), np.asarray(codec.restore(payload)))

    def test_batches_of_a_device(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        counts: list[int] = []
        decode = OpenBundle.decode

        def counted(self: OpenBundle, lrs: np.ndarray, *options: Any) -> np.ndarray:
            counts.append(len(lrs))
            return decode(self, lrs, *options)

        monkeypatch.setattr(batch, "Codec", lambda bundle, device, threads: sdk.Codec(bundle))
        monkeypatch.setattr(OpenBundle, "decode", counted)
        folder = write_tiny_bundle(tmp_path)
        codec = sdk.Codec(folder)
        for index in range(20):
            codec.compress(np.full((HR, HR, 3), index, np.uint8)).save(tmp_path / "in" / f"{index:02}.grain")
        (tmp_path / "in" / "03.grain").write_bytes(b"\xed\x6e")
        names = [f"{index:02}.grain" for index in range(20)]
        tally = Worker(replace(at(tmp_path, folder, "restore"), device="cuda")).work(names)
        assert (counts, tally.done, tally.failures[0]["name"]) == ([8, 8, 8], 19, "03.grain")
        with Image.open(tmp_path / "out" / "17.png") as restored:
            assert np.asarray(restored).max() == 17

    def test_a_damaged_bundle_says_so(self, tmp_path: Path) -> None:
        broken = write_tiny_bundle(tmp_path)
        (broken / "decoder.onnx").write_bytes(b"something else")
        with pytest.raises(BundleError, match="decoder.onnx"):
            Worker(at(tmp_path, broken, "restore")).work([])

    @pytest.mark.parametrize(
        ("work", "status"),
        [("time.sleep(60)", 1), ("raise DeviceError('illegal')", 1), ("raise DeviceMemoryError('too large')", 0)],
    )
    def test_it_ends_when_a_file_hangs_or_its_device_fails(self, work: str, status: int, tmp_path: Path) -> None:
        write_pictures(tmp_path / "in")
        program = f"""if True:
            import time
            from codec_contract.errors import DeviceError, DeviceMemoryError
            from edgegrain import batch
            def compress(*arguments, **options):
                {work}
            batch.compress_within = compress
            batch.FILE_SECONDS = 0.5
            batch.Worker(batch.{at(tmp_path, write_tiny_bundle(tmp_path), "compress")!r}).work(["deep/0.png"])"""
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=30)
        assert done.returncode == status, done.stderr


class Died(Exception):
    """An actor's process ended."""


class Refused(Exception):
    """A task raised an exception, `cause`."""

    def __init__(self, cause: Exception) -> None:
        self.cause = cause


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Ray in this process: actors whose process ends when a file is "poison", as often as `poison` has lives."""
    state = SimpleNamespace(tasks=[], actors=0, error=None)

    class Actor:
        def __init__(self, plan: BatchPlan) -> None:
            state.actors += 1
            self.work = SimpleNamespace(remote=lambda names: (self, tuple(names), len(state.tasks)))

    def get(task: Any) -> Tally:
        _, names, _ = task
        state.tasks.append(names)
        if state.error is not None:
            raise state.error
        if "poison" in names:
            raise Died("it died")
        return Tally(done=len(names))

    ray = SimpleNamespace(get=get, wait=lambda tasks: (tasks[:1], tasks[1:]))
    ray.remote = lambda **options: lambda cls: SimpleNamespace(remote=Actor)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.exceptions", SimpleNamespace(RayError=Died, RayTaskError=Refused))
    return state


def test_the_file_that_ends_a_process_is_found(cluster: SimpleNamespace) -> None:
    total = Tally()
    for part in tallies(plan(), iter([["a", "b"], ["c", "poison", "d"], ["e"]]), 2):
        total.add(part)
    assert (total.done, total.failed) == (5, 1)
    reason = "the process that worked on it died or hung; the file may be malicious"
    assert total.failures == [{"name": "poison", "error": reason}]
    assert ("poison",) in cluster.tasks and cluster.actors == 4
    assert list(tallies(plan(), iter([]), 2)) == [Tally()]


def test_errors_of_all_files_end_the_run(cluster: SimpleNamespace) -> None:
    for cluster.error, kind, message in (
        (Refused(BundleError("a bundle is damaged")), BundleError, "a bundle is damaged"),
        (Refused(ValueError("other")), ServiceError, "other"),
        (Died("no memory"), ServiceError, "no worker could start"),
    ):
        with pytest.raises(kind, match=message):
            list(tallies(plan(), iter([["a"]]), 1))


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_MODE", "RAY_USAGE_STATS_ENABLED"):
        monkeypatch.delenv(name, raising=False)
    before = dict(os.environ)
    monkeypatch.setitem(sys.modules, "ray", None)
    try:
        with pytest.raises(ServiceError, match=r"pip install 'edgegrain\[ray\]'"), ray_cluster(None, 1):
            pass
        assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
        assert (os.environ["RAY_AUTH_MODE"], len(os.environ["RAY_AUTH_TOKEN"])) == ("token", 64)
    finally:
        os.environ.clear()
        os.environ.update(before)
