"""``edgegrain compress`` on tiny bundles: files written, lines and JSON printed, exit statuses."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import pytest
import typer
from PIL import Image

import sdk
from codec_contract.bundle import find as bundle_paths
from codec_contract.bundle.find import DEFAULT_BUNDLE, QUALITIES
from edgegrain.cli import files
from edgegrain.cli.files import STDIN, plan_jobs, read_source
from edgegrain.cli.main import app
from edgegrain.cli.options import Quality
from tests.tiny_bundle import write_qualities, write_tiny_bundle
from tests.unit.edgegrain.cli.conftest import Shell, write_picture

pytestmark = pytest.mark.usefixtures("tiny_bundles")


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

    def test_a_final_slash_makes_out_a_folder(self, shell: Shell, tmp_path: Path) -> None:
        path = write_picture(tmp_path / ".me.png")  # hidden, but named
        assert shell("compress", path, "--out", f"{tmp_path}/p2024.10/")[0] == 0
        assert (tmp_path / "p2024.10" / ".me.grain").read_bytes() == sdk.compress(path)
        status, _, err = shell("compress", "-", "--out", f"{tmp_path}/p2024.11/")
        assert status == 2 and "p2024.11/ is a folder" in " ".join(err.split())

    def test_a_file_called_dash(self, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        write_picture(tmp_path / "me.png").rename(tmp_path / "-")
        assert shell("compress", "./-", "--out", "./-.grain")[0] == 0
        assert (tmp_path / "-.grain").read_bytes() == sdk.compress(tmp_path / "-")
        assert shell("retouch", "./-", "--out", "./-.png")[0] == 0
        with Image.open(tmp_path / "-.png") as picture:
            assert picture.size == (90, 70)
        status, _, err = shell("retouch", ".")
        assert status == 2 and "'.' is a folder" in err

    def test_a_file_is_no_folder_for_results(self, shell: Shell, tmp_path: Path) -> None:
        path = write_picture(tmp_path / "me.png")
        (tmp_path / "taken").write_bytes(b"mine")
        status, _, err = shell("compress", path, "--out", tmp_path / "taken", "--force")
        assert status == 2 and "taken is a file; name a folder" in err and "taken.grain" in err
        assert (tmp_path / "taken").read_bytes() == b"mine"

    def test_a_closed_stream_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stdin", None)
        with pytest.raises(typer.BadParameter, match="standard input is closed"):
            read_source(STDIN)
        monkeypatch.setattr(sys, "stdout", None)
        path = write_picture(tmp_path / "me.png")
        with pytest.raises(typer.BadParameter, match="standard output is closed"):
            plan_jobs([path], "-", wanted=frozenset({".png"}), result_suffix=".grain")

    def test_folders_keep_their_structure(self, shell: Shell, tmp_path: Path) -> None:
        for index, name in enumerate(["a.png", "b.jpg", "deep/c.webp"]):
            write_picture(tmp_path / "in" / name, seed=index)
        (tmp_path / "in" / "notes.txt").write_text("no picture")
        for hidden in ("._a.png", ".thumbnails/a.png", "deep/.b.png"):
            write_picture(tmp_path / "in" / hidden)
        status, out, _ = shell("compress", tmp_path / "in", "-o", tmp_path / "out")
        written = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*"))
        assert status == 0 and written == ["a.grain", "b.grain", "deep/c.grain"]
        assert out.splitlines()[-1].startswith("3 pictures: ")

    def test_results_in_a_folder_are_no_pictures(self, shell: Shell, tmp_path: Path) -> None:
        folder = tmp_path / "holiday"
        write_picture(folder / "anna.jpg")
        assert shell("compress", folder, "--lr")[0] == 0
        for file_format in ("png", "webp", "jpg"):
            assert shell("restore", folder, "--format", file_format)[0] == 0
        assert shell("retouch", folder / "anna.jpg")[0] == 0
        results = {"anna.grain", "anna.lr.png", "anna.restored.png", "anna.restored.webp", "anna.restored.jpg",
                   "anna.retouched.png"}
        assert {path.name for path in folder.iterdir()} == {"anna.jpg", *results}
        write_picture(folder / "ben.jpg")
        status, out, err = shell("compress", folder, "--lr")
        assert status == 1 and out.startswith(f"{folder / 'ben.jpg'} -> {folder / 'ben.grain'}: ")
        assert f"{folder / 'anna.grain'} exists" in err and err.endswith("1 of 2 failed\n")
        rows = json.loads(shell("compress", folder, "--force", "--json")[1])["done"]
        assert [Path(row["picture"]).name for row in rows] == ["anna.jpg", "ben.jpg"]
        named = folder / "anna.restored.png"
        assert shell("compress", named)[0] == 0 and (folder / "anna.restored.grain").exists()
        for name in ("anna.jpg", "ben.jpg"):
            (folder / name).unlink()
        status, _, err = shell("compress", folder)
        assert status == 2 and "results of edgegrain, such as anna.lr.png" in " ".join(err.replace("│", " ").split())

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
        assert get_args(Quality) == QUALITIES
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

    @pytest.mark.parametrize("arguments", [
        ("compress", "in", "in/a.lr.png", "--lr"), ("compress", "in/a.lr.png", "--lr", "--out", "in/a.grain"),
        ("restore", "a.grain", "a.restored.png"),
        ("restore", "a.grain", "--background", "in/a.png", "--out", "in/a.png"),
        ("retouch", "in/a.lr.png", "--original", "in/a.png", "--out", "in/a.png"),
        ("demo", "photograph.png", "--out", ".")])
    def test_no_result_replaces_another_source(
        self, arguments: tuple[str, ...], shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        for name in ("in/a.png", "in/a.lr.png", "a.restored.png", "photograph.png"):
            write_picture(tmp_path / name)
        sdk.compress(tmp_path / "in" / "a.png").save(tmp_path / "a.grain")
        before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
        status, _, err = shell(*arguments, "--force")
        assert status == 2 and "is one of the files to read" in err
        assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before

    def test_names_that_are_not_utf8_are_printed(self, tmp_path: Path) -> None:
        path = write_picture(tmp_path / "\udcff.png")  # the byte 255
        command = [sys.executable, "-m", "edgegrain.cli.main", "compress", "--no-align", path]
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

    def test_names_that_differ_in_case_keep_their_suffix(self, tmp_path: Path) -> None:
        """On macOS, Windows and memory cards A.grain and a.grain are one file."""
        for name in ("A.jpg", "a.png", "b.png"):
            write_picture(tmp_path / "in" / name)
        jobs = plan_jobs([tmp_path / "in"], str(tmp_path), wanted=frozenset({".jpg", ".png"}), result_suffix=".grain")
        assert [job.target.name for job in jobs.items] == ["A.jpg.grain", "a.png.grain", "b.grain"]

    def test_a_pipe_is_read_once(self, shell: Shell, tmp_path: Path) -> None:
        picture, pipe, out = write_picture(tmp_path / "me.png"), tmp_path / "pipe", tmp_path / "out.grain"
        os.mkfifo(pipe)

        def piped(content: bytes, *arguments: object) -> dict[str, Any]:
            threading.Thread(target=pipe.write_bytes, args=(content,), daemon=True).start()
            status, said, err = shell(*arguments, "--json")
            assert status == 0, err
            return dict(json.loads(said)["done"][0])

        row = piped(picture.read_bytes(), "compress", pipe, "--out", out, "--fit", "crop")
        assert row["picture_bytes"] == picture.stat().st_size
        payload = out.read_bytes()
        assert payload == sdk.compress(picture, fit="crop")
        assert list(piped(payload, "info", pipe, "--time")["seconds"]) == ["64"]
        row = piped(payload, "restore", pipe, "--background", picture, "--out", tmp_path / "back.png")
        assert (row["width"], row["height"]) == (90, 70)

    def test_a_folder_that_cannot_be_read_does_not_stop_the_others(
            self, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_picture(tmp_path / "in" / "a.png")
        write_picture(tmp_path / "in" / "locked" / "b.png")
        listed = os.scandir

        def scandir(path: str) -> object:
            if Path(path).name == "locked":
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return listed(path)

        monkeypatch.setattr(os, "scandir", scandir)
        status, _, err = shell("compress", tmp_path / "in", "--out", tmp_path / "out")
        assert status == 1 and (tmp_path / "out" / "a.grain").exists()
        assert err == f"error: [Errno 13] Permission denied: '{tmp_path / 'in' / 'locked'}'\n1 of 2 failed\n"
        status, out, _ = shell("compress", tmp_path / "in" / "locked", "--json")
        assert status == 1 and [row["file"] for row in json.loads(out)["failed"]] == [str(tmp_path / "in" / "locked")]

    def test_every_picture_of_a_folder_is_compressed_or_counted(self, shell: Shell, tmp_path: Path) -> None:
        picture = write_picture(tmp_path / "in" / "a.jpg")
        for suffix in ("jfif", "jpe", "mpo"):
            picture.with_suffix(f".{suffix}").write_bytes(picture.read_bytes())
        for name in ("b.apng", "c.ico"):
            write_picture(tmp_path / f"{name}.png").rename(tmp_path / "in" / name)
        (tmp_path / "in" / "gone.png").symlink_to("nowhere.png")
        for name in ("notes.txt", "film.mov", "old.grain"):
            (tmp_path / "in" / name).touch()
        status, out, err = shell("compress", tmp_path / "in", "--out", tmp_path / "out")
        assert status == 1 and out.splitlines()[-1].startswith("6 pictures: ")
        assert err.startswith("left out 2 files of folders, neither picture nor payload by suffix\n")
        assert "No such file" in err and "gone.png" in err and err.endswith("1 of 7 failed\n")

    @pytest.mark.parametrize("command", ["compress", "faces"])
    def test_a_payload_is_to_be_restored(self, shell: Shell, tmp_path: Path, command: str) -> None:
        path = sdk.compress(write_picture(tmp_path / "me.png")).save(tmp_path / "me.grain")
        status, _, err = shell(command, path)
        assert status == 2 and f"is a payload; to restore its picture: edgegrain restore {path}" in err

    def test_a_full_disk_names_the_file_that_was_written(
            self, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        path = write_picture(tmp_path / "me.png")
        monkeypatch.setattr(os, "fsync", full)
        status, _, err = shell("compress", path)
        assert status == 1
        assert err == f"error: {path}: [Errno 28] No space left on device: '{tmp_path / 'me.grain'}'\n"

    def test_names_do_not_reach_the_terminal_raw(self, shell: Shell, tmp_path: Path) -> None:
        picture = write_picture(tmp_path / "a\x1b[31m\n\u202e b\u00a0.png")
        shown = f"{tmp_path}/a\\x1b[31m\\n\\u202e b\u00a0"
        status, out, _ = shell("compress", picture)
        assert status == 0 and out.startswith(f"{shown}.png -> {shown}.grain: ") and out.count("\n") == 1
        for arguments in (("compress", picture), ("compress", tmp_path / "\x1b[0m"), ("restore", picture),
                          ("compress", picture, "--out", "-", "--scene", "--lr")):
            status, out, err = shell(*arguments)
            assert status in (1, 2) and "\x1b" not in out + err and "\u202e" not in out + err
        assert "\x1b" not in shell("info", tmp_path)[1] + shell("info", picture.with_suffix(".grain"))[1]

    def test_standard_input_has_a_limit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(files, "MAX_STDIN_BYTES", 8)
        for size in (8, 9):
            given = SimpleNamespace(buffer=io.BytesIO(bytes(size)), isatty=lambda: False)
            monkeypatch.setattr(sys, "stdin", given)
            if size == 8:
                assert read_source(STDIN) == bytes(8)
                continue
            with pytest.raises(typer.BadParameter, match="more than 8 bytes"):
                read_source(STDIN)

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
