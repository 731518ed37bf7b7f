"""The command line on tiny bundles: files written, lines and JSON printed, exit statuses."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image

import sdk
from codec_contract.bundle import paths as bundle_paths
from codec_contract.bundle.manifest import load_manifest, verify_bundle
from codec_contract.bundle.paths import DEFAULT_BUNDLE
from codec_contract.bundle.qualities import QUALITIES
from codec_contract.version import __version__
from edge_encoder.faces.alignment import FacePoints
from edgegrain.cli.app import CHECK, EXPORT, SERVE, TRAIN, USE, application
from edgegrain.cli.compress import QualityChoice
from edgegrain.cli.main import app
from sdk import align_or_fit as alignment
from tests.tiny_bundle import HR, LR, write_qualities, write_tiny_bundle
from tests.unit.edgegrain.cli.conftest import Shell

pytestmark = pytest.mark.usefixtures("tiny_bundles")

ROOT = Path(__file__).resolve().parents[4]
TOP_LEVEL = ("compress", "restore", "info", "bundles", "retouch", "demo", "faces", "align", "serve", "batch", "train",
             "prior", "publish", "pictures", "metrics", "export", "convert", "device-kit", "device-report", "evaluate",
             "models", "doctor")


def commands(group: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command that is not a group."""
    for name, command in (group or typer.main.get_command(application)).commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


def write_picture(path: Path, seed: int = 0, size: tuple[int, int] = (90, 70)) -> Path:
    rgb = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rgb).save(path)
    return path


class TestHelp:
    def test_lists_the_commands_and_exit_statuses(self, shell: Shell) -> None:
        status, out, _ = shell("--help")
        assert status == 0
        assert {words[0] for words in commands()} == set(TOP_LEVEL)
        for command in TOP_LEVEL:
            assert f"\n  {command} " in out
        headings = [out.index(f"\n{heading}:\n") for heading in (USE, SERVE, TRAIN, EXPORT, CHECK)]
        assert headings == sorted(headings) and "\nOther:\n" not in out
        assert "Exit codes:\n    0    done\n    1    the command failed" in out

    @pytest.mark.parametrize("words", list(commands()), ids=" ".join)
    def test_every_command_shows_examples(self, shell: Shell, words: tuple[str, ...]) -> None:
        status, out, _ = shell(*words, "--help")
        assert status == 0
        assert "Examples:\n" in out and f"\n    edgegrain {' '.join(words)}" in out
        assert out.split("\n\n")[1].strip()[0].isupper()  # a sentence

    def test_version(self, shell: Shell) -> None:
        assert shell("--version") == (0, f"edgegrain {__version__}\n", "")

    @pytest.mark.parametrize("arguments", [["comprss"], ["compress"], ["compress", "--fit", "cover", "x"], ["restore"]])
    def test_wrong_usage_is_status_2(self, shell: Shell, arguments: list[str]) -> None:
        status, out, err = shell(*arguments)
        assert status == 2 and out == "" and "Usage" in err

    def test_module(self) -> None:
        command = [sys.executable, "-m", "edgegrain", "--version"]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert result.returncode == 0 and result.stdout.startswith("edgegrain ")

    @pytest.mark.parametrize("missing", ["typer", "rich"])
    def test_missing_library_says_what_to_install(self, missing: str) -> None:
        program = f"import sys; sys.modules[{missing!r}] = None; from edgegrain.cli.main import app; app()"
        result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
        assert result.returncode == 1 and result.stdout == ""
        assert result.stderr.count("\n") == 1
        assert f"{missing} is missing" in result.stderr and "pip install 'edgegrain[cli]'" in result.stderr


class TestAlign:
    @pytest.fixture
    def face(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The finder finds a face in every picture."""
        points = FacePoints((40, 30), (50, 30), (45, 40))
        monkeypatch.setattr(alignment, "_finder", lambda folder: SimpleNamespace(find=lambda rgb: points))

    def test_there_and_back_into_a_background(self, shell: Shell, tmp_path: Path, face: None) -> None:
        path, out = write_picture(tmp_path / "group.png"), tmp_path / "back.png"
        status, stdout, _ = shell("compress", path, "--align", "--json")
        row = json.loads(stdout)["done"][0]
        assert status == 0 and row["fit"] == "align" and (row["width"], row["height"]) == (90, 70)
        payload = tmp_path / "group.grain"
        assert "a square of 40 pixels around (45, 31), turned by 0 degrees" in shell("info", payload)[1]
        assert shell("restore", payload, "--background", path, "--out", out)[0] == 0
        with Image.open(out) as image:
            restored = np.asarray(image)
        for size, name in (("native", "native.png"), (32, "small.png")):
            assert shell("restore", payload, "--background", path, "--out", tmp_path / name, "--size", size)[0] == 0
            expected = sdk.paste(sdk.restore(payload, size=size), payload, path)  # type: ignore[arg-type]
            np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / name)), np.asarray(expected))
        pasted = sdk.paste(sdk.restore(payload, size="native"), payload, path)
        np.testing.assert_array_equal(restored, np.asarray(pasted))
        assert sdk.read_mark(out) == sdk.read_mark(pasted) is not None
        assert (restored[:, :25] == np.asarray(Image.open(path))[:, :25]).all()

    def test_a_background_belongs_to_one_payload(self, shell: Shell, tmp_path: Path, face: None) -> None:
        paths = [write_picture(tmp_path / name) for name in ("a.png", "b.png")]
        shell("compress", *paths, "--align")
        grains = [path.with_suffix(".grain") for path in paths]
        status, _, err = shell("restore", *grains, "--background", paths[0])
        assert status == 2 and "it takes one payload, got 2" in err

    def test_without_models(self, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("EDGEGRAIN_CACHE", str(tmp_path / "empty"))
        path = write_picture(tmp_path / "me.png")
        status, _, err = shell("compress", path, "--align")
        assert status == 1 and "run: edgegrain align fetch" in err
        assert shell("compress", path, "--align-auto")[0] == 0
        assert sdk.inspect(tmp_path / "me.grain").fit == "crop"

    def test_not_with_a_service(self, shell: Shell, tmp_path: Path) -> None:
        path = write_picture(tmp_path / "me.png")
        status, _, err = shell("compress", path, "--align", "--remote", "http://localhost:1")
        assert status == 2 and "the service does not align" in err
        status, _, err = shell("compress", path, "--max-megapixels", "0.5", "--remote", "http://localhost:1")
        assert status == 2 and "the service has its own limit" in err
        for option, value in (("--seed", "1"), ("--device", "cuda")):
            status, _, err = shell("restore", path, option, value, "--remote", "http://localhost:1")
            assert status == 2 and option in err

    def test_an_lr_that_exists_is_refused_before_the_payload_is_written(self, shell: Shell, tmp_path: Path) -> None:
        path = write_picture(tmp_path / "me.png")
        (tmp_path / "me.lr.png").write_bytes(b"mine")
        status, _, err = shell("compress", path, "--lr")
        assert status == 1 and "me.lr.png exists" in err and not (tmp_path / "me.grain").exists()


class TestCompress:
    def test_beside_the_picture(self, shell: Shell, tmp_path: Path) -> None:
        path = write_picture(tmp_path / "me.png")
        status, out, err = shell("compress", path)
        payload = (tmp_path / "me.grain").read_bytes()
        assert status == 0 and err == ""
        assert payload == sdk.compress(path)
        assert out.startswith(f"{path} -> {tmp_path / 'me.grain'}: {len(payload):,} bytes, ")

    def test_out_names_the_file(self, shell: Shell, tmp_path: Path) -> None:
        path = write_picture(tmp_path / "me.png")
        assert shell("compress", path, "--out", tmp_path / "new" / "x.grain", "--fit", "crop")[0] == 0
        assert (tmp_path / "new" / "x.grain").read_bytes() == sdk.compress(path, fit="crop")

    def test_folders_keep_their_structure(self, shell: Shell, tmp_path: Path) -> None:
        for index, name in enumerate(["a.png", "b.jpg", "deep/c.webp"]):
            write_picture(tmp_path / "in" / name, seed=index)
        (tmp_path / "in" / "notes.txt").write_text("no picture")
        status, out, _ = shell("compress", tmp_path / "in", "-o", tmp_path / "out")
        written = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*"))
        assert status == 0 and written == ["a.grain", "b.grain", "deep/c.grain"]
        assert out.splitlines()[-1].startswith("3 pictures: ")

    def test_json(self, shell: Shell, tmp_path: Path) -> None:
        path = write_picture(tmp_path / "me.png")
        status, out, _ = shell("compress", path, "--json", "--lr", "--bundle", "random-64-lr16")
        payload = sdk.Payload((tmp_path / "me.grain").read_bytes())
        assert status == 0
        assert json.loads(out) == {"failed": [], "done": [{
            "picture": str(path), "payload": str(tmp_path / "me.grain"), "bytes": len(payload),
            "picture_bytes": path.stat().st_size, "width": 90, "height": 70, "fit": "pad", "bundle": "random-64-lr16",
            "lr": str(tmp_path / "me.lr.png")}]}
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "me.lr.png")), payload.lr)

    def test_quality_and_limit(self, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert tuple(each.value for each in QualityChoice) == QUALITIES
        folders = write_qualities(tmp_path / "bundles")
        monkeypatch.setattr(bundle_paths, "bundle_roots", lambda: (tmp_path / "bundles",))
        path = write_picture(tmp_path / "me.png")
        sizes = {}
        for quality, folder in folders.items():
            status, out, _ = shell("compress", path, "--quality", quality, "--json", "--force")
            (row,) = json.loads(out)["done"]
            assert status == 0 and row["bundle"] == folder.name
            sizes[quality] = row["bytes"]
        limit = sizes["medium"] - 1
        status, out, _ = shell("compress", path, "--max-bytes", limit, "--json", "--force")
        assert status == 0 and json.loads(out)["done"][0]["bytes"] == sizes["small"]
        status, _, err = shell("compress", path, "--quality", "tiny", "--max-bytes", 20, "--force")
        assert status == 1 and f"fits into 20 bytes: the smallest payload of this picture has {sizes['tiny']}" in (
            " ".join(err.split()))
        assert shell("compress", path, "--quality", "large")[0] == 1

    def test_another_bundle_s_damage_does_not_matter(
        self, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        write_tiny_bundle(tmp_path / "bundles", DEFAULT_BUNDLE)
        (write_tiny_bundle(tmp_path / "bundles", "other-64-lr16") / "manifest.json").write_text("damaged")
        monkeypatch.setattr(bundle_paths, "bundle_roots", lambda: (tmp_path / "bundles",))
        path = write_picture(tmp_path / "me.png")
        assert shell("compress", path)[0] == 0
        assert not caplog.text
        assert shell("compress", path, "--max-bytes", 900, "--force")[0] == 0
        assert "manifest of other-64-lr16 is not JSON" in " ".join(caplog.text.split())
        status, out, _ = shell("bundles")
        assert status == 1 and DEFAULT_BUNDLE in out and "other-64-lr16" not in out

    def test_the_source_is_not_replaced(self, shell: Shell, tmp_path: Path) -> None:
        path = write_picture(tmp_path / "me.png")
        original = path.read_bytes()
        assert shell("compress", path, "--out", path, "--force")[0] == 2
        assert path.read_bytes() == original

    def test_names_that_are_not_utf8_are_printed(self, tmp_path: Path) -> None:
        path = write_picture(tmp_path / "\udcff.png")  # the byte 255
        command = [sys.executable, "-m", "edgegrain.cli.main", "compress", path]
        done = subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"})
        assert done.returncode == 0 and rb"\udcff.png" in done.stdout, done.stderr

    def test_background(self, shell: Shell, tmp_path: Path) -> None:
        path = tmp_path / "clear.png"
        Image.new("RGBA", (20, 20)).save(path)
        assert shell("compress", path, "--background", "#0a141e")[0] == 0
        assert (sdk.Payload((tmp_path / "clear.grain").read_bytes()).lr == (10, 20, 30)).all()
        status, _, err = shell("compress", path, "--background", "pink")
        assert status == 2 and "'pink' is not a colour" in err

    def test_does_not_overwrite(self, shell: Shell, tmp_path: Path) -> None:
        path = write_picture(tmp_path / "me.png")
        (tmp_path / "me.grain").write_text("precious")
        status, out, err = shell("compress", path)
        assert status == 1 and out == "" and err.startswith(f"error: {path}: ") and "--force" in err
        assert (tmp_path / "me.grain").read_text() == "precious"
        assert shell("compress", path, "--force")[0] == 0
        assert (tmp_path / "me.grain").read_bytes() == sdk.compress(path)

    def test_one_failure_does_not_stop_the_others(self, shell: Shell, tmp_path: Path) -> None:
        good, better = write_picture(tmp_path / "a.png"), write_picture(tmp_path / "c.png")
        (tmp_path / "b.png").write_bytes(b"no picture")
        status, out, err = shell("compress", good, tmp_path / "b.png", better)
        assert status == 1
        assert (tmp_path / "a.grain").exists() and (tmp_path / "c.grain").exists()
        assert not (tmp_path / "b.grain").exists()
        assert err.startswith(f"error: {tmp_path / 'b.png'} is not a picture") and err.count("\n") == 2
        assert err.endswith("\n1 of 3 failed\n")
        assert err.count("b.png") == 1
        assert out.splitlines()[-1].startswith("2 pictures: ")

    def test_colliding_names_keep_their_suffix(self, shell: Shell, tmp_path: Path) -> None:
        for index, name in enumerate(["a.jpg", "a.jpeg", "b.jpg", "deep/a.jpg"]):
            write_picture(tmp_path / "in" / name, seed=index)
        out = tmp_path / "out"
        assert shell("compress", tmp_path / "in", tmp_path / "in" / "a.jpg", "--out", out, "--lr")[0] == 0
        written = {path.relative_to(out).as_posix() for path in out.rglob("*.*")}
        names = ("a.jpg", "a.jpeg", "b", "deep/a")
        assert written == {f"{name}{suffix}" for name in names for suffix in (".grain", ".lr.png")}
        for name in ("a.jpg", "a.jpeg"):
            assert (out / f"{name}.grain").read_bytes() == sdk.compress(tmp_path / "in" / name)

    def test_equal_names_are_refused(self, shell: Shell, tmp_path: Path) -> None:
        paths = [write_picture(tmp_path / folder / "a.png") for folder in ("one", "two")]
        status, _, err = shell("compress", *paths, "--out", tmp_path / "out")
        assert status == 2 and "would both become" in err
        assert not (tmp_path / "out").exists()

    def test_standard_output(self, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
        path = write_picture(tmp_path / "me.png")
        with pytest.raises(SystemExit) as leaving:
            app(["compress", str(path), "--out", "-", "--json"])
        out, err = capsysbinary.readouterr()
        assert leaving.value.code == 0 and out == sdk.compress(path)
        assert json.loads(err)["done"][0]["bytes"] == len(out)
        assert [file.name for file in tmp_path.iterdir()] == ["me.png"]

    def test_standard_input_goes_to_standard_output(
            self, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
        picture = write_picture(tmp_path / "me.png")
        outputs = []
        for command, given in (("compress", picture.read_bytes()), ("restore", sdk.compress(picture))):
            monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(given), isatty=lambda: False))
            with pytest.raises(SystemExit) as leaving:
                app([command, "-"])
            out, err = capsysbinary.readouterr()
            assert leaving.value.code == 0 and err.startswith(b"- -> -: ")
            outputs.append(out)
        assert outputs[0] == sdk.compress(picture)
        with Image.open(io.BytesIO(outputs[1])) as restored:
            assert restored.size == (90, 70)

    def test_standard_input_goes_to_a_file(
            self, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        picture, out = write_picture(tmp_path / "me.png"), tmp_path / "out.grain"
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=picture.open("rb"), isatty=lambda: False))
        status, stdout, _ = shell("compress", "-", "--out", out)
        assert status == 0 and f"- -> {out}: " in stdout
        assert out.read_bytes() == sdk.compress(picture)
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=out.open("rb"), isatty=lambda: False))
        status, stdout, _ = shell("info", "-")
        assert status == 0 and "90 x 70 pixels, fit pad" in stdout

    @pytest.mark.parametrize(("arguments", "said"), [
        (["-", "me.png"], "standard input (-) is read alone"), (["-", "--out", "."], "name the file for standard"),
        (["-", "--out", "me"], "name the file for standard"), (["-"], "standard input is a terminal")])
    def test_standard_input_needs_one_place(
        self, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
    ) -> None:
        write_picture(tmp_path / "me.png")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(), isatty=lambda: True))
        status, out, err = shell("compress", *arguments)
        assert status == 2 and out == "" and said in " ".join(err.split())

    def test_a_payload_larger_than_its_picture(self, shell: Shell, tmp_path: Path) -> None:
        status, out, _ = shell("compress", write_picture(tmp_path / "me.png", size=(1, 1)))
        assert status == 0 and "times more than the file" in out and "times more than its pixels" in out

    @pytest.mark.parametrize(("more", "said"), [
        (["other.png"], "takes the result of one file"), (["--lr"], "the LR is written next to the payload")])
    def test_standard_output_takes_one_payload(self, tmp_path: Path, more: list[str], said: str,
                                               shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        for name in ("me.png", "other.png"):
            write_picture(tmp_path / name)
        status, out, err = shell("compress", "me.png", *more, "--out", "-")
        assert status == 2 and out == "" and said in " ".join(err.split())
        status, _, err = shell("compress", ".", "--out", "-")
        assert status == 2 and "takes the result of one file" in " ".join(err.split())

    def test_a_terminal_is_no_place_for_a_payload(
        self, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = write_picture(tmp_path / "me.png")
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        status, out, err = shell("compress", path, "--out", "-")
        assert status == 2 and out == "" and "standard output is a terminal" in " ".join(err.split())

    def test_folder_without_pictures(self, shell: Shell, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        status, _, err = shell("compress", tmp_path / "empty")
        assert status == 2 and "holds no file with the suffix" in err

    def test_limit(self, shell: Shell, tmp_path: Path) -> None:
        path = write_picture(tmp_path / "me.png")
        status, _, err = shell("compress", path, "--max-megapixels", "0.001")
        assert status == 1 and "90 x 70 pixels, more than 1000" in err

    def test_unknown_bundle_is_one_line(self, shell: Shell, tmp_path: Path) -> None:
        status, out, err = shell("compress", write_picture(tmp_path / "me.png"), "--bundle", "cats")
        assert status == 1 and out == ""
        assert err.startswith("error: ") and "no bundle 'cats'" in err and err.count("\n") == 1

    def test_interruption_leaves_whole_files(
        self, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        paths = [write_picture(tmp_path / f"{name}.png") for name in "abc"]
        compress, calls = sdk.Codec.compress_fitted, []

        def interrupted(self: sdk.Codec, *arguments: object, **options: object) -> sdk.Payload:
            calls.append(arguments)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return compress(self, *arguments, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(sdk.Codec, "compress_fitted", interrupted)
        status, _, err = shell("compress", *paths)
        assert status == 130 and err.startswith("interrupted")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.grain", "a.png", "b.png", "c.png"]
        assert sdk.inspect(tmp_path / "a.grain").bundle == DEFAULT_BUNDLE


class TestRestore:
    def test_beside_the_payload(self, shell: Shell, tmp_path: Path) -> None:
        payload = sdk.compress(write_picture(tmp_path / "me.png"))
        path = payload.save(tmp_path / "me.grain")
        status, out, err = shell("restore", path)
        assert status == 0 and err == ""
        assert out == f"{path} -> {tmp_path / 'me.restored.png'}: 90 x 70 pixels\n"
        restored = np.asarray(Image.open(tmp_path / "me.restored.png"))
        np.testing.assert_array_equal(restored, np.asarray(sdk.restore(payload)))

    def test_finds_the_bundle_the_payload_names(self, shell: Shell, tmp_path: Path) -> None:
        payload = sdk.compress(write_picture(tmp_path / "me.png"), bundle="random-64-lr16")
        path = payload.save(tmp_path / "me.grain")
        assert shell("restore", path)[0] == 0
        status, _, err = shell("restore", path, "--force", "--bundle", "faces")
        assert status == 1 and "restore it with the bundle it was made with" in err

    def test_a_picture_too_large_for_its_format_does_not_stop_the_others(self, shell: Shell, tmp_path: Path) -> None:
        wide = sdk.compress(write_picture(tmp_path / "wide.png", size=(17000, 40))).save(tmp_path / "wide.grain")
        path = sdk.compress(write_picture(tmp_path / "me.png")).save(tmp_path / "me.grain")
        status, out, err = shell("restore", wide, path, "--out", tmp_path / "out", "--format", "webp")
        assert status == 1 and "17000 x 40 pixels, the sides of a WEBP file have at most 16383" in " ".join(err.split())
        assert (tmp_path / "out" / "me.restored.webp").is_file()

    @pytest.mark.parametrize(("name", "kind"), [("x.jpg", "JPEG"), ("x.webp", "WEBP"), ("x.png", "PNG")])
    def test_out_and_its_suffix(self, shell: Shell, tmp_path: Path, name: str, kind: str) -> None:
        path = sdk.compress(write_picture(tmp_path / "me.png")).save(tmp_path / "me.grain")
        assert shell("restore", path, "--out", tmp_path / name, "--size", "native")[0] == 0
        with Image.open(tmp_path / name) as image:
            assert image.format == kind and image.size == (64, 50)
        mark = sdk.read_mark(tmp_path / name)
        assert mark is not None and (mark.by_edgegrain, mark.bundle) == (True, DEFAULT_BUNDLE)
        assert shell("restore", path, "--out", tmp_path / name, "--no-mark", "--force")[0] == 0
        assert sdk.read_mark(tmp_path / name) is None

    def test_sizes(self, shell: Shell, tmp_path: Path) -> None:
        bundle = write_tiny_bundle(tmp_path, doublings=1)
        path = sdk.compress(write_picture(tmp_path / "me.png"), bundle=bundle).save(tmp_path / "me.grain")
        status, out, _ = shell("restore", path, "--bundle", bundle, "--size", 128, "--out", tmp_path / "large.png")
        assert status == 0 and out.endswith(": 128 x 100 pixels\n")
        large = sdk.restore(path, bundle, size=128)
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "large.png")), np.asarray(large))
        status, _, err = shell("restore", path, "--bundle", bundle, "--size", 200, "--force")
        assert status == 1 and "at up to 128 pixels, not at 200; its sizes: 64, 128" in err
        for size in ("huge", "-1", "0", "1e3", "123456"):
            status, _, err = shell("restore", path, f"--size={size}", "--force")
            assert status == 2 and "--size" in err and "size" in err

    def test_other_suffix(self, shell: Shell, tmp_path: Path) -> None:
        path = sdk.compress(write_picture(tmp_path / "me.png")).save(tmp_path / "me.grain")
        status, _, err = shell("restore", path, "--out", tmp_path / "x.doc")
        assert status == 1 and "written as .png, .jpg, .jpeg, .webp, not as .doc" in err

    def test_lr_png(self, shell: Shell, tmp_path: Path) -> None:
        payload = sdk.compress(write_picture(tmp_path / "me.png"))
        Image.fromarray(payload.lr).save(tmp_path / "lr.png")
        assert shell("restore", tmp_path / "lr.png")[0] == 0
        with Image.open(tmp_path / "lr.restored.png") as image:
            assert image.size == (64, 64)

    def test_folder_and_json(self, shell: Shell, tmp_path: Path) -> None:
        payload = sdk.compress(write_picture(tmp_path / "me.png"))
        for name in ("a", "b"):
            payload.save(tmp_path / "in" / f"{name}.grain")
        status, out, _ = shell("restore", tmp_path / "in", "-o", tmp_path / "out", "--format", "jpg", "--json")
        assert status == 0
        rows = json.loads(out)["done"]
        assert [row["picture"] for row in rows] == [str(tmp_path / "out" / f"{n}.restored.jpg") for n in ("a", "b")]
        assert [(row["width"], row["height"], row["device"]) for row in rows] == [(90, 70, "cpu")] * 2

    def test_damaged_payload(self, shell: Shell, tmp_path: Path) -> None:
        path = tmp_path / "bad.grain"
        path.write_bytes(bytes(sdk.compress(write_picture(tmp_path / "me.png")))[:-3])
        status, out, err = shell("restore", path)
        assert status == 1 and out == "" and err.startswith(f"error: {path}: the payload") and err.count("\n") == 1
        assert not (tmp_path / "bad.restored.png").exists()

    def test_does_not_overwrite(self, shell: Shell, tmp_path: Path) -> None:
        path = sdk.compress(write_picture(tmp_path / "me.png")).save(tmp_path / "me.grain")
        (tmp_path / "me.restored.png").write_text("precious")
        status, _, err = shell("restore", path)
        assert status == 1 and "--force" in err and (tmp_path / "me.restored.png").read_text() == "precious"
        assert shell("restore", path, "--force")[0] == 0

    def test_standard_output(self, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
        path = sdk.compress(write_picture(tmp_path / "me.png")).save(tmp_path / "me.grain")
        with pytest.raises(SystemExit) as leaving:
            app(["restore", str(path), "--out", "-", "--format", "webp"])
        out, err = capsysbinary.readouterr()
        with Image.open(io.BytesIO(out)) as image:
            assert leaving.value.code == 0 and (image.format, image.size) == ("WEBP", (90, 70))
        assert err.decode() == f"{path} -> -: 90 x 70 pixels\n"

    def test_claims_are_bounded(self, shell: Shell, tmp_path: Path) -> None:
        path = sdk.compress(write_picture(tmp_path / "me.png")).save(tmp_path / "me.grain")
        status, _, err = shell("restore", path, "--max-megapixels", "0.001")
        assert status == 1 and "claims an original of 90 x 70" in err


class TestInfo:
    def test_lines(self, shell: Shell, tmp_path: Path) -> None:
        payload = sdk.compress(write_picture(tmp_path / "me.png"))
        path = payload.save(tmp_path / "me.grain")
        status, out, _ = shell("info", path)
        assert status == 0
        contract = sdk.bundles()[0].lr_contract_id[:8]
        for line in (f"  size      {len(payload):,} bytes, ", f"  bundle    {DEFAULT_BUNDLE} (LR contract {contract})",
                     "  original  90 x 70 pixels, fit pad",
                     f"  restored  up to {HR} pixels; larger ones are interpolated", f"  LR        {LR} x {LR}",
                     "  checked   intact"):
            assert f"\n{line}" in out

    def test_sizes_of_the_bundle(
        self, shell: Shell, tmp_path: Path, tiny_bundles: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = sdk.compress(write_picture(tmp_path / "me.png")).save(tmp_path / "me.grain")
        write_tiny_bundle(tmp_path / "enlarged", DEFAULT_BUNDLE, doublings=2)
        monkeypatch.setattr(bundle_paths, "bundle_roots", lambda: (tmp_path / "enlarged",))
        assert "\n  restored  up to 256 pixels (64, 128, 256); restore --size 256\n" in shell("info", path)[1]
        assert json.loads(shell("info", path, "--json")[1])["done"][0]["sides"] == [64, 128, 256]
        assert re.search(r"\n  time      64: \d+ ms, 128: \d+ ms, 256: \d+ ms\n", shell("info", path, "--time")[1])
        timed = json.loads(shell("info", path, "--time", "--json")[1])["done"][0]
        assert list(timed["seconds"]) == ["64", "128", "256"]
        assert "\n  restored at 64, 128, 256 pixels\n" in shell("bundles")[1]
        monkeypatch.setattr(bundle_paths, "bundle_roots", lambda: (tmp_path / "none",))
        status, out, _ = shell("info", path, "--time")
        assert status == 0 and "  restored  " not in out and "  time  " not in out

    def test_json_and_failures(self, shell: Shell, tmp_path: Path) -> None:
        path = sdk.compress(write_picture(tmp_path / "me.png")).save(tmp_path / "me.grain")
        bad = tmp_path / "bad.grain"
        bad.write_bytes(b"nothing of the kind, really")
        status, out, err = shell("info", path, bad, "--json")
        report = json.loads(out)
        assert status == 1 and err.startswith(f"error: {bad}: not a payload")
        assert [row["file"] for row in report["done"]] == [str(path)]
        assert report["done"][0]["bundle"] == DEFAULT_BUNDLE and report["done"][0]["original_size"] == [90, 70]
        assert report["failed"][0]["file"] == str(bad)

    def test_folder(self, shell: Shell, tmp_path: Path) -> None:
        sizes = []
        for index, name in enumerate(["a", "deep/long name"]):
            picture = write_picture(tmp_path / "me.png", seed=index, size=(90, 70 + 1000 * index))
            sizes.append((tmp_path / "in" / f"{name}.grain", len(sdk.compress(picture, fit="crop"))))
            sdk.compress(picture, fit="crop").save(sizes[-1][0])
        status, out, err = shell("info", tmp_path / "in")
        assert status == 0 and err == ""
        (short, little), (long, much) = sizes
        assert out.splitlines() == [
            f"{short!s:<{len(str(long))}}  {little} bytes    90 x 70  crop  {DEFAULT_BUNDLE}  intact",
            f"{long}  {much} bytes  90 x 1070  crop  {DEFAULT_BUNDLE}  intact",
            f"2 payloads, {little + much:,} bytes: {min(little, much)} to {max(little, much)}, "
            f"median {(little + much) / 2:.0f}"]
        (tmp_path / "in" / "bad.grain").write_bytes(b"nothing of the kind, really")
        status, out, err = shell("info", tmp_path / "in", "--json")
        assert status == 1 and [row["file"] for row in json.loads(out)["done"]] == [str(short), str(long)]
        assert err.endswith("1 of 3 failed\n")

    def test_folder_without_intact_payloads(self, shell: Shell, tmp_path: Path) -> None:
        status, _, err = shell("info", tmp_path)
        assert status == 2 and "holds no file with the suffix .grain" in " ".join(err.split())
        (tmp_path / "bad.grain").write_bytes(b"nothing of the kind, really")
        status, out, err = shell("info", tmp_path)
        assert status == 1 and out == "" and err.count("\n") == 1


class TestBundles:
    @pytest.fixture(autouse=True)
    def empty_cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("EDGEGRAIN_CACHE", str(tmp_path / "cache"))

    def test_lines(self, shell: Shell) -> None:
        status, out, _ = shell("bundles")
        assert status == 0
        assert f"{DEFAULT_BUNDLE}, faces, version 1.0.0\n  anything, grain: 64 x 64 pixels <-> LR 16 x 16\n" in out
        assert "random-64-lr16, version 1.0.0\n" in out and "licence of weights: Apache-2.0" in out

    def test_json(self, shell: Shell) -> None:
        status, out, _ = shell("bundles", "--json", "--verify")
        assert status == 0
        rows = json.loads(out)
        assert [(row["id"], row["verified"]) for row in rows] == [(DEFAULT_BUNDLE, True), ("random-64-lr16", True)]

    def test_altered(self, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = write_tiny_bundle(tmp_path)
        (folder / "README.md").write_text("altered")
        monkeypatch.setattr("codec_contract.bundle.paths.bundle_roots", lambda: (tmp_path,))
        assert shell("bundles")[0] == 0
        status, _, err = shell("bundles", "--verify")
        assert status == 1 and "README.md of bundle tiny-64-lr16 is altered" in err

    def test_one_that_is_not_installed(self, shell: Shell, tmp_path: Path) -> None:
        folder = write_tiny_bundle(tmp_path)
        status, out, _ = shell("bundles", "show", folder, "--verify")
        assert status == 0
        assert out.startswith("tiny-64-lr16, version 1.0.0, every file verified\n") and f"MB in {folder}\n" in out
        status, out, _ = shell("bundles", "show", folder, "random-64-lr16", "--json")
        assert [row["id"] for row in json.loads(out)] == ["tiny-64-lr16", "random-64-lr16"]
        status, _, err = shell("info", folder)
        assert status == 2 and "'edgegrain bundles show'" in err
        status, _, err = shell("bundles", "show", tmp_path / "none")
        assert status == 1 and "there is no bundle" in err
        (folder / "README.md").write_text("altered")
        assert shell("bundles", "show", folder)[0] == 0 and shell("bundles", "show", folder, "--verify")[0] == 1

    def test_naming_the_quality_keeps_payloads(self, shell: Shell, tmp_path: Path) -> None:
        folder = write_tiny_bundle(tmp_path)
        before = load_manifest(folder)
        assert shell("bundles", "quality", folder, "small") == (0, "tiny-64-lr16: quality small\n", "")
        after = verify_bundle(folder)
        assert after.quality == "small" and replace(after, quality=None) == before
        assert shell("bundles", "quality", folder, "large")[0] == 0 and load_manifest(folder).quality == "large"
        status, _, err = shell("bundles", "quality", folder, "huge")
        assert status == 2 and "'huge' is not one of" in err

    def test_none(self, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("codec_contract.bundle.paths.bundle_roots", lambda: (tmp_path,))
        assert shell("bundles") == (0, f"no bundles are installed (looked in {tmp_path})\n", "")
