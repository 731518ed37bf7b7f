"""``edgegrain batch`` around its run: usage, summary, exit status, the file of failures. Ray has no part in this."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sdk
from codec_contract.bundle import find as paths
from codec_contract.fit import MAX_PHOTO_PIXELS, MAX_PIXELS
from edgegrain import batch
from edgegrain.batch import BatchPlan, Tally, Worker
from tests.pictures import noise
from tests.tiny_bundle import HR, refresh_manifest, write_qualities, write_steered_bundle, write_tiny_bundle
from tests.unit.edgegrain.cli.conftest import Shell
from tests.unit.edgegrain.conftest import lock

pytestmark = pytest.mark.usefixtures("tiny_bundles")


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys, "batch")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two pictures."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray(np.full((HR, HR, 3), ord(name[0]), np.uint8)).save(folder / name)
    return folder


@pytest.fixture
def damaged(pictures: Path) -> Path:
    """A third one, which is damaged."""
    (pictures / "c.png").write_bytes(b"damaged")
    return pictures / "c.png"


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[BatchPlan]:
    """Runs happen in this process; the plans of those that were started."""
    started: list[BatchPlan] = []

    def tallies(plan: BatchPlan, batches: Iterator[list[str]], workers: int, gpus: float) -> Iterator[Tally]:
        started.append(plan)
        yield from map(Worker(plan).work, batches)

    @contextmanager
    def no_cluster(address: str | None, cpus: int) -> Iterator[int]:
        yield 1

    monkeypatch.setattr(batch, "tallies", tallies)
    monkeypatch.setattr(batch, "ray_cluster", no_cluster)
    return started


def failures(folder: Path) -> dict[str, str]:
    """Name -> error of what failed."""
    lines = map(json.loads, (folder / "failures.jsonl").read_text().splitlines())
    return {line["name"]: line["error"] for line in lines}


def test_summary_failures_and_status(
    pictures: Path, damaged: Path, plans: list[BatchPlan], tmp_path: Path, shell: Shell
) -> None:
    out = tmp_path / "out"
    status, printed, err = shell(pictures, out, "--json")
    summary = json.loads(printed)
    (failure,) = [json.loads(line) for line in (out / "failures.jsonl").read_text().splitlines()]
    assert status == 1 and failure["name"] == "c.png"
    assert err == f"error: c.png: {failure['error']}\n1 of 3 failed; all are in {out / 'failures.jsonl'}\n"
    made = sum((out / f"{name}.png.grain").stat().st_size for name in "ab")
    assert (summary["verb"], summary["done"], summary["skipped"], summary["failed"]) == ("compress", 2, 0, 1)
    assert (summary["bytes_out"], summary["failures"]) == (made, str(out / "failures.jsonl"))
    assert sorted(path.name for path in out.iterdir()) == ["a.png.grain", "b.png.grain", "failures.jsonl"]

    damaged.unlink()
    assert shell.ok(pictures, out).startswith("0 done in ") and not (out / "failures.jsonl").exists()
    assert shell.ok(pictures, out, "--force").startswith("2 done in ")
    assert [plan.force for plan in plans] == [False, True] and plans[0].max_pixels == MAX_PHOTO_PIXELS


@pytest.mark.parametrize("place", ["in/results", "in/deep/results", "in"])
def test_a_run_with_results_in_its_source_goes_on(
    place: str, pictures: Path, plans: list[BatchPlan], tmp_path: Path, shell: Shell
) -> None:
    out = tmp_path / place
    shell.ok(pictures, out)
    Image.fromarray(np.full((HR, HR, 3), 9, np.uint8)).save(pictures / "new.png")
    summary = shell.json(pictures, out)
    assert (summary["verb"], summary["done"], summary["skipped"]) == ("compress", 1, 2)
    assert {path.name for path in tmp_path.rglob("*.grain")} == {f"{name}.png.grain" for name in ("a", "b", "new")}


def test_a_run_of_restoring_into_its_source_goes_on(
    pictures: Path, plans: list[BatchPlan], tmp_path: Path, shell: Shell
) -> None:
    payloads = tmp_path / "payloads"
    for source, target in ((pictures, payloads), (payloads, payloads / "back"), (payloads, payloads / "back")):
        shell.ok(source, target)
    assert [plan.verb for plan in plans] == ["compress", "restore"]  # nothing was left for the third
    names = ["a.png.grain", "a.png.png", "b.png.grain", "b.png.png"]
    assert sorted(path.name for path in payloads.rglob("*.*")) == names


def test_a_folder_that_cannot_be_listed_is_a_failure(
    pictures: Path, plans: list[BatchPlan], tmp_path: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    (pictures / "locked").mkdir()
    (pictures / "round.png").symlink_to("round.png")
    (pictures / "gone.png").symlink_to("nowhere.png")
    lock(monkeypatch, pictures / "locked")
    status, out, err = shell(pictures, tmp_path / "out")
    assert status == 1 and out.startswith("2 done in ") and "error: locked: [Errno 13] Permission denied" in err
    assert sorted(failures(tmp_path / "out")) == ["gone.png", "locked", "round.png"]

    lock(monkeypatch, pictures)
    shell.fails(f"cannot list {pictures}: [Errno 13] Permission denied", pictures, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_back_to_pictures(pictures: Path, plans: list[BatchPlan], tmp_path: Path, shell: Shell) -> None:
    shell.ok(pictures, tmp_path / "payloads")
    shell.ok(tmp_path / "payloads", tmp_path / "back", "--format", "webp", "--size", "native")
    assert plans[1].verb == "restore" and plans[1].suffix == ".webp" and plans[1].max_pixels == MAX_PIXELS
    with Image.open(tmp_path / "back" / "a.png.webp") as picture:
        assert (picture.format, picture.size) == ("WEBP", (HR, HR))
    mark = sdk.read_mark(tmp_path / "back" / "a.png.webp")
    assert mark is not None and mark.by_edgegrain and mark.bundle == Path(plans[1].bundles[0]).name
    shell.ok(tmp_path / "payloads", tmp_path / "plain", "--format", "jpg", "--no-mark")
    assert sdk.read_mark(tmp_path / "plain" / "a.png.jpg") is None


def test_pictures_of_a_chosen_size(pictures: Path, plans: list[BatchPlan], tmp_path: Path, shell: Shell) -> None:
    bundle = write_tiny_bundle(tmp_path, doublings=1)
    shell.ok(pictures, tmp_path / "payloads", "--bundle", bundle)
    shell.ok(tmp_path / "payloads", tmp_path / "back", "--bundle", bundle, "--size", 2 * HR)
    payload = (tmp_path / "payloads" / "a.png.grain").read_bytes()
    large = np.asarray(sdk.restore(payload, bundle, size=2 * HR))
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "back" / "a.png.png")), large)
    for size, status, said in ((200, 1, "not at 200; its sizes: 64, 128"), ("big", 2, "unknown size 'big', expected")):
        shell.fails(said, tmp_path / "payloads", tmp_path / "none", "--bundle", bundle, "--size", size, status=status)
    assert len(plans) == 2 and not (tmp_path / "none").exists()


def test_pictures_of_a_chosen_strength(pictures: Path, plans: list[BatchPlan], tmp_path: Path, shell: Shell) -> None:
    bundle = write_steered_bundle(tmp_path)
    shell.ok(pictures, tmp_path / "payloads", "--bundle", bundle)
    restored = []
    for strength in (4, 24):
        out = tmp_path / f"back{strength}"
        shell.ok(tmp_path / "payloads", out, "--bundle", bundle, "--strength", strength)
        restored.append(np.asarray(Image.open(out / "a.png.png")).astype(int))
    assert (restored[1] - restored[0] == 10).all()  # half a level for each unit
    arguments = tmp_path / "payloads", tmp_path / "none", "--bundle", bundle, "--strength", 99
    shell.fails("a number from 4 to 64, got 99", *arguments)
    assert len(plans) == 3 and not (tmp_path / "none").exists()


def test_payloads_are_not_restored_among_originals(pictures: Path, plans: list[BatchPlan], shell: Shell) -> None:
    shell.ok(pictures, pictures)
    link = pictures.with_name("link")
    link.symlink_to(pictures)
    for source, target in ((pictures, pictures.as_uri()), (pictures.as_uri() + "/", pictures), (pictures, link)):
        shell.fails("choose another folder", source, target, "--restore", "--force", status=2)
    assert len(plans) == 1


def test_usage(pictures: Path, tmp_path: Path, shell: Shell) -> None:
    (tmp_path / "empty").mkdir()
    shell.fails("is not a folder", tmp_path / "nowhere", tmp_path / "out", status=2)
    shell.fails("holds no picture or payload", tmp_path / "empty", tmp_path / "out", status=2)
    assert not (tmp_path / "out").exists()


def test_faces_are_found(
    pictures: Path, plans: list[BatchPlan], tmp_path: Path, portrait: np.ndarray, shell: Shell
) -> None:
    bundle = write_tiny_bundle(tmp_path)
    refresh_manifest(bundle, domain="faces")
    group = Image.new("RGB", (700, 400), (120, 130, 140))
    group.paste(Image.fromarray(portrait), (60, 40))
    group.save(pictures / "b.png")
    codec, out = sdk.Codec(bundle), tmp_path / "out"
    shell.fails("1 of 2 failed", pictures, out, "--bundle", bundle)
    error = failures(out)["a.png"]
    assert "no face was found" in error and "--no-align" in error
    assert (out / "b.png.grain").read_bytes() == codec.compress(group) != codec.compress(group, align=False)

    for option, fit in (("--no-align", "pad"), ("--fit=crop", "crop")):
        shell.ok(pictures, tmp_path / fit, "--bundle", bundle, option)
        assert (tmp_path / fit / "b.png.grain").read_bytes() == codec.compress(group, fit)  # type: ignore[arg-type]
    assert [(plan.align, plan.fit) for plan in plans] == [(True, None), (False, None), (True, "crop")]

    payloads = tmp_path / "scenes"
    payloads.mkdir()
    scene = codec.compress_scene(group)
    files = {"scene": scene, "face": scene.faces[0]}
    for name, data in files.items():
        (payloads / f"{name}.grain").write_bytes(data)
    shell.ok(payloads, tmp_path / "back", "--bundle", bundle)
    for name, data in files.items():
        with Image.open(tmp_path / "back" / f"{name}.png") as restored:
            np.testing.assert_array_equal(restored, sdk.restore(data, bundle))


@pytest.mark.parametrize("library", ["ray", "filelock"])
def test_without_ray(
    library: str, pictures: Path, tmp_path: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, "edgegrain.pictures.writing", raising=False)
    err = shell.fails(f"needs {library}, which is not installed", pictures, tmp_path / "out")
    assert "pip install 'edgegrain[ray]'" in err and err.count("\n") == 1


def test_a_quality_or_a_limit_chooses_bundles(
    pictures: Path, plans: list[BatchPlan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: Shell
) -> None:
    folders = write_qualities(tmp_path / "bundles")
    monkeypatch.setattr(paths, "bundle_roots", lambda: (tmp_path / "bundles",))
    Image.fromarray(noise(HR, HR)).save(pictures / "b.png")
    shell.ok(pictures, tmp_path / "one", "--quality", "tiny")
    limit = len(sdk.Codec(folders["medium"]).compress(pictures / "a.png"))
    least = len(sdk.Codec(folders["tiny"]).compress(pictures / "b.png"))
    shell.ok(pictures, tmp_path / "two", "--max-bytes", limit)
    one, two = ([Path(folder).name for folder in plan.bundles] for plan in plans)
    assert one == [folders["tiny"].name] and two == [folders[name].name for name in ("medium", "small", "tiny")]
    assert [plan.max_bytes for plan in plans] == [None, limit]
    payloads = [sdk.Payload((tmp_path / "two" / f"{name}.png.grain").read_bytes()) for name in "ab"]
    assert [payload.header.lr_width for payload in payloads] == [32, 8]
    shell.ok(tmp_path / "two", tmp_path / "restored")  # each payload by the bundle that it names
    assert [Image.open(tmp_path / "restored" / f"{name}.png.png").size for name in "ab"] == [(HR, HR)] * 2
    said = f"b.png: no quality fits into {least - 1} bytes: the smallest payload of this picture has {least}"
    shell.fails(said, pictures, tmp_path / "three", "--max-bytes", least - 1)
    shell.fails("restoring does not take it", tmp_path / "one", tmp_path / "back", "--quality", "tiny", status=2)


def test_options_of_another_verb(pictures: Path, plans: list[BatchPlan], tmp_path: Path, shell: Shell) -> None:
    (pictures / "d.grain").write_bytes(b"damaged")
    foreign = {
        "compress": "--size=native --format=webp --no-mark --strength=8",
        "restore": "--fit=crop --max-bytes=400 --no-align",
    }
    for verb, options in foreign.items():
        for option in options.split():
            said = f"Invalid value for {option.partition('=')[0]}: {verb.removesuffix('e')}ing does not take it"
            shell.fails(said, pictures, tmp_path / "out", f"--{verb}", option, status=2)
    assert not plans
