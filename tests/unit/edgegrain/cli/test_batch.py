"""``edgegrain batch`` around its run: usage, summary, exit status, the file of failures. Ray has no part in this."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sdk
from codec_contract.bundle import find as paths
from codec_contract.fit import MAX_PHOTO_PIXELS, MAX_PIXELS
from edgegrain import batch
from edgegrain.batch import BatchPlan, Tally, Worker
from edgegrain.cli.main import app
from edgegrain.stores import open_store
from tests.tiny_bundle import HR, refresh_manifest, write_qualities, write_steered_bundle, write_tiny_bundle

pytestmark = pytest.mark.usefixtures("tiny_bundles")


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as leaving:
        app(["batch", *map(str, arguments)])
    return int(leaving.value.code or 0)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three pictures, one of them damaged."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray(np.full((HR, HR, 3), ord(name[0]), np.uint8)).save(folder / name)
    (folder / "c.png").write_bytes(b"damaged")
    return folder


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[BatchPlan]:
    """Runs happen in this process; the plans of those that were started."""
    started: list[BatchPlan] = []

    def tallies(plan: BatchPlan, batches: Iterator[list[str]], workers: int, gpus: float) -> Iterator[Tally]:
        started.append(plan)
        yield from map(Worker(plan).work, batches)

    @contextmanager
    def no_cluster(address: str | None, *, cpus: float) -> Iterator[None]:
        yield

    monkeypatch.setattr(batch, "tallies", tallies)
    monkeypatch.setattr(batch, "ray_cluster", no_cluster)
    monkeypatch.setattr(batch, "cluster_cores", lambda: 1)
    return started


def test_summary_failures_and_status(
    pictures: Path, plans: list[BatchPlan], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(pictures, out, "--json") == 1
    captured = capsys.readouterr()
    summary = json.loads(captured.out)
    (failure,) = [json.loads(line) for line in (out / "failures.jsonl").read_text().splitlines()]
    assert failure["name"] == "c.png" and captured.err == (
        f"error: c.png: {failure['error']}\n1 of 3 failed; all are in {out / 'failures.jsonl'}\n")
    payloads = [(out / f"{name}.png.grain").stat().st_size for name in "ab"]
    assert {key: summary[key] for key in ("verb", "done", "skipped", "failed", "bytes_out", "failures")} == {
        "verb": "compress", "done": 2, "skipped": 0, "failed": 1, "bytes_out": sum(payloads),
        "failures": str(out / "failures.jsonl")}
    assert sorted(path.name for path in out.iterdir()) == ["a.png.grain", "b.png.grain", "failures.jsonl"]

    (pictures / "c.png").unlink()
    assert run(pictures, out) == 0
    assert capsys.readouterr().out.startswith("0 done in ")
    assert not (out / "failures.jsonl").exists()
    assert run(pictures, out, "--force") == 0
    assert capsys.readouterr().out.startswith("2 done in ")
    assert [plan.force for plan in plans] == [False, True] and plans[0].max_pixels == MAX_PHOTO_PIXELS


@pytest.mark.parametrize("place", ["in/results", "in/deep/results", "in"])
def test_a_run_with_results_in_its_source_goes_on(
    place: str, pictures: Path, plans: list[BatchPlan], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / place
    (pictures / "c.png").unlink()
    assert run(pictures, out) == 0
    Image.fromarray(np.full((HR, HR, 3), 9, np.uint8)).save(pictures / "new.png")
    capsys.readouterr()
    assert run(pictures, out, "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["verb"], summary["done"], summary["skipped"]) == ("compress", 1, 2)
    assert {path.name for path in tmp_path.rglob("*.grain")} == {f"{name}.png.grain" for name in ("a", "b", "new")}


def test_a_run_of_restoring_into_its_source_goes_on(
    pictures: Path, plans: list[BatchPlan], tmp_path: Path
) -> None:
    (pictures / "c.png").unlink()
    payloads = tmp_path / "payloads"
    assert run(pictures, payloads) == run(payloads, payloads / "back") == run(payloads, payloads / "back") == 0
    assert [plan.verb for plan in plans] == ["compress", "restore"]  # nothing was left for the third
    assert sorted(path.name for path in payloads.rglob("*.*")) == [
        "a.png.grain", "a.png.png", "b.png.grain", "b.png.png"]


def test_a_result_whose_name_is_too_long(pictures: Path, plans: list[BatchPlan], tmp_path: Path) -> None:
    long = f"{246 * 'x'}.png"
    (pictures / "c.png").rename(pictures / "c.txt")
    (pictures / long).write_bytes((pictures / "a.png").read_bytes())
    assert run(pictures, tmp_path / "out") == 1
    (line,) = (tmp_path / "out" / "failures.jsonl").read_text().splitlines()
    failure = json.loads(line)
    assert failure["name"] == long and "too long" in failure["error"]
    assert sorted(path.name for path in (tmp_path / "out").glob("*.grain")) == ["a.png.grain", "b.png.grain"]


def test_a_folder_that_cannot_be_listed_is_a_failure(
    pictures: Path, plans: list[BatchPlan], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch
) -> None:
    (pictures / "c.png").unlink()
    (pictures / "locked").mkdir()
    (pictures / "round.png").symlink_to("round.png")
    (pictures / "gone.png").symlink_to("nowhere.png")
    lock(monkeypatch, pictures / "locked")
    assert run(pictures, tmp_path / "out") == 1
    captured = capsys.readouterr()
    assert captured.out.startswith("2 done in ") and "error: locked: [Errno 13] Permission denied" in captured.err
    failures = map(json.loads, (tmp_path / "out" / "failures.jsonl").read_text().splitlines())
    assert sorted(failure["name"] for failure in failures) == ["gone.png", "locked", "round.png"]

    lock(monkeypatch, pictures)
    assert run(pictures, tmp_path / "none") == 1 and not (tmp_path / "none").exists()
    assert "Permission denied" in capsys.readouterr().err


def lock(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Refuse to list a folder, also to root."""
    original = os.scandir

    def scandir(path: str) -> Any:
        if os.path.samefile(path, folder):
            raise PermissionError(13, "Permission denied", path)
        return original(path)

    monkeypatch.setattr(os, "scandir", scandir)


def test_back_to_pictures(pictures: Path, plans: list[BatchPlan], tmp_path: Path) -> None:
    run(pictures, tmp_path / "payloads")
    assert run(tmp_path / "payloads", tmp_path / "back", "--format", "webp", "--size", "native") == 0
    assert plans[1].verb == "restore" and plans[1].suffix == ".webp" and plans[1].max_pixels == MAX_PIXELS
    with Image.open(tmp_path / "back" / "a.png.webp") as picture:
        assert (picture.format, picture.size) == ("WEBP", (HR, HR))
    mark = sdk.read_mark(tmp_path / "back" / "a.png.webp")
    assert mark is not None and mark.by_edgegrain and mark.bundle == Path(plans[1].bundles[0]).name
    assert run(tmp_path / "payloads", tmp_path / "plain", "--format", "jpg", "--no-mark") == 0
    assert sdk.read_mark(tmp_path / "plain" / "a.png.jpg") is None


def test_pictures_of_a_chosen_size(
    pictures: Path, plans: list[BatchPlan], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = write_tiny_bundle(tmp_path, doublings=1)
    run(pictures, tmp_path / "payloads", "--bundle", bundle)
    assert run(tmp_path / "payloads", tmp_path / "back", "--bundle", bundle, "--size", 2 * HR) == 0
    payload = (tmp_path / "payloads" / "a.png.grain").read_bytes()
    large = np.asarray(sdk.restore(payload, bundle, size=2 * HR))
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "back" / "a.png.png")), large)
    for size, status, said in ((200, 1, "not at 200; its sizes: 64, 128"), ("big", 2, "unknown size 'big', expected")):
        assert run(tmp_path / "payloads", tmp_path / "none", "--bundle", bundle, "--size", size) == status
        assert said in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert len(plans) == 2 and not (tmp_path / "none").exists()


def test_pictures_of_a_chosen_strength(
    pictures: Path, plans: list[BatchPlan], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = write_steered_bundle(tmp_path)
    run(pictures, tmp_path / "payloads", "--bundle", bundle)
    restored = []
    for strength in (4, 24):
        out = tmp_path / f"back{strength}"
        assert run(tmp_path / "payloads", out, "--bundle", bundle, "--strength", strength) == 0
        restored.append(np.asarray(Image.open(out / "a.png.png")).astype(int))
    assert (restored[1] - restored[0] == 10).all()  # half a level for each unit
    for arguments, status, said in ((("--strength", 99), 1, "a number from 4 to 64, got 99"),
                                    (("--compress", "--strength", 8), 2, "compressing does not take it")):
        source = pictures if "--compress" in arguments else tmp_path / "payloads"
        assert run(source, tmp_path / "none", "--bundle", bundle, *arguments) == status
        assert said in " ".join(capsys.readouterr().err.split())
    assert len(plans) == 3 and not (tmp_path / "none").exists()


def test_a_file_that_is_not_ours_stays(
    pictures: Path, plans: list[BatchPlan], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("mine\n")
    assert run(pictures, tmp_path / "out", "--failures", notes) == 1
    assert "is not a list of failures" in capsys.readouterr().err and notes.read_text() == "mine\n" and not plans


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_failures_written_to_a_device_leave_it(pictures: Path, plans: list[BatchPlan], tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDWR)  # a writer would wait for a reader
    try:
        assert run(pictures, tmp_path / "out", "--failures", pipe) == 1
        assert json.loads(os.read(reader, 4096))["name"] == "c.png"
        (pictures / "c.png").unlink()
        assert run(pictures, tmp_path / "out", "--failures", pipe) == 0
        assert pipe.is_fifo()
    finally:
        os.close(reader)


def test_payloads_are_not_restored_among_originals(
    pictures: Path, plans: list[BatchPlan], capsys: pytest.CaptureFixture[str]
) -> None:
    (pictures / "c.png").unlink()
    assert run(pictures, pictures) == 0
    assert run(pictures, pictures, "--restore") == 2
    assert "choose another folder" in " ".join(capsys.readouterr().err.split()) and len(plans) == 1
    link = pictures.with_name("link")
    link.symlink_to(pictures)
    for source, target in ((pictures, pictures.as_uri()), (pictures.as_uri() + "/", pictures), (pictures, link),
                           (link, link / ".." / "in")):
        assert run(source, target, "--restore", "--force") == 2
        assert "choose another folder" in " ".join(capsys.readouterr().err.split()) and len(plans) == 1


def test_payloads_are_not_restored_among_originals_of_a_bucket(
    plans: list[BatchPlan], capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pyarrow.fs", reason="needs the extra ray")
    place = "fsspec+memory://bucket/originals"
    open_store(place).write("a.grain", b"damaged")
    assert run(place, f"{place}/", "--restore") == run(f"{place}//", place, "--restore") == 2 and not plans
    assert "choose another folder" in " ".join(capsys.readouterr().err.split())


def test_a_file_of_failures_that_cannot_be_written(
    pictures: Path, plans: list[BatchPlan], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Path.open

    def refuse(path: Path, mode: str = "r", **options: Any) -> Any:
        if mode == "w":
            raise PermissionError(13, "Permission denied", str(path))
        return original(path, mode, **options)

    monkeypatch.setattr(Path, "open", refuse)
    assert run(pictures, tmp_path / "out", "--failures", tmp_path / "notes") == 1
    assert "Permission denied" in capsys.readouterr().err and not plans


@pytest.mark.parametrize(("source", "message"), [
    ("nowhere", "is not a folder"), ("empty", "holds no picture or payload"),
    ("both", "choose --compress or --restore")])
def test_usage(source: str, message: str, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "both").mkdir()
    (tmp_path / "both" / "a.png").write_bytes((pictures / "a.png").read_bytes())
    (tmp_path / "both" / "b.grain").write_bytes(b"\xed\x6e and so on")
    assert run(tmp_path / source, tmp_path / "out") == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_faces_are_found(
    pictures: Path, plans: list[BatchPlan], tmp_path: Path, portrait: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = write_tiny_bundle(tmp_path)
    refresh_manifest(bundle, domain="faces")
    group = Image.new("RGB", (700, 400), (120, 130, 140))
    group.paste(Image.fromarray(portrait), (60, 40))
    group.save(pictures / "b.png")
    codec, out = sdk.Codec(bundle), tmp_path / "out"
    assert run(pictures, out, "--bundle", bundle) == 1
    lines = (out / "failures.jsonl").read_text().splitlines()
    errors = {line["name"]: line["error"] for line in map(json.loads, lines)}
    assert errors.keys() == {"a.png", "c.png"} and "no face was found" in errors["a.png"]
    assert "--no-align" in errors["a.png"]
    assert (out / "b.png.grain").read_bytes() == codec.compress(group) != codec.compress(group, align=False)

    (pictures / "c.png").unlink()
    for option, fit in (("--no-align", "pad"), ("--fit=crop", "crop")):
        assert run(pictures, tmp_path / fit, "--bundle", bundle, option) == 0
        assert (tmp_path / fit / "b.png.grain").read_bytes() == codec.compress(group, fit)  # type: ignore[arg-type]
    assert [(plan.align, plan.fit) for plan in plans] == [
        (True, None), (False, None), (True, "crop")]

    payloads = tmp_path / "scenes"
    payloads.mkdir()
    scene = codec.compress_scene(group)
    files = {"scene": scene, "face": scene.faces[0]}
    for name, data in files.items():
        (payloads / f"{name}.grain").write_bytes(data)
    assert run(payloads, tmp_path / "back", "--bundle", bundle) == 0
    for name, data in files.items():
        with Image.open(tmp_path / "back" / f"{name}.png") as restored:
            np.testing.assert_array_equal(restored, sdk.restore(data, bundle))


@pytest.mark.parametrize("library", ["ray", "filelock"])
def test_without_ray(
    library: str, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, "edgegrain.pictures.writing", raising=False)
    assert run(pictures, tmp_path / "out") == 1
    err = capsys.readouterr().err
    assert f"needs {library}, which is not installed" in err and "pip install 'edgegrain[ray]'" in err
    assert err.count("\n") == 1


def test_a_quality_or_a_limit_chooses_bundles(
    pictures: Path, plans: list[BatchPlan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folders = write_qualities(tmp_path / "bundles")
    monkeypatch.setattr(paths, "bundle_roots", lambda: (tmp_path / "bundles",))
    (pictures / "c.png").unlink()
    assert run(pictures, tmp_path / "one", "--quality", "tiny") == 0
    assert run(pictures, tmp_path / "two", "--max-bytes", "400") == 0
    assert [([Path(folder).name for folder in plan.bundles], plan.max_bytes) for plan in plans] == [
        ([folders["tiny"].name], None), ([folders[name].name for name in ("medium", "small", "tiny")], 400)]
    sizes = [path.stat().st_size for path in (tmp_path / "two").glob("*.grain")]
    assert len(sizes) == 2 and max(sizes) <= 400
    assert run(tmp_path / "one", tmp_path / "back", "--quality", "tiny") == 2
    assert "restoring does not take it" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [
    ("--compress", "--size", "native"), ("--compress", "--format", "webp"), ("--compress", "--no-mark"),
    ("--compress", "--strength", "8"), ("--restore", "--fit", "crop"), ("--restore", "--max-bytes", "400"),
    ("--restore", "--no-align")])
def test_options_of_the_other_verb(
    arguments: tuple[str, ...], pictures: Path, plans: list[BatchPlan], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (pictures / "d.grain").write_bytes(b"damaged")
    assert run(pictures, tmp_path / "out", *arguments) == 2 and not plans
    err = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert f"Invalid value for {arguments[1]}: {arguments[0].strip('-').removesuffix('e')}ing does not take it" in err


def test_gpus_are_for_cuda(pictures: Path, plans: list[BatchPlan], tmp_path: Path,
                           capsys: pytest.CaptureFixture[str]) -> None:
    assert run(pictures, tmp_path / "out", "--gpus", "0.5") == 2 and not plans
    assert "Invalid value for --gpus: is for --device cuda" in " ".join(capsys.readouterr().err.split())
