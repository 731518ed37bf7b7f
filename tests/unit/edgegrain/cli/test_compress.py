"""``edgegrain compress`` on tiny bundles: files written, lines and JSON printed, exit statuses."""

import errno
import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

import sdk
from codec_contract.bundle import find as bundle_paths
from codec_contract.bundle.find import DEFAULT_BUNDLE
from codec_contract.errors import BundleError
from tests.tiny_bundle import write_qualities, write_tiny_bundle
from tests.unit.edgegrain.cli.conftest import Shell, pipe_in, write_payload, write_picture
from tests.unit.edgegrain.conftest import lock

pytestmark = pytest.mark.usefixtures("tiny_bundles")


class TestCompress:
    def test_beside_the_picture(self, shell: Shell, picture: Path) -> None:
        payload = sdk.compress(picture)
        target = picture.with_suffix(".grain")
        assert shell.ok("compress", picture).startswith(f"{picture} -> {target}: {len(payload):,} bytes, ")
        assert target.read_bytes() == payload

    def test_out_names_the_file(self, shell: Shell, tmp_path: Path, picture: Path) -> None:
        shell.ok("compress", picture, "--out", tmp_path / "new" / "x.grain", "--fit", "crop")
        assert (tmp_path / "new" / "x.grain").read_bytes() == sdk.compress(picture, fit="crop")

    def test_a_final_slash_makes_out_a_folder(self, shell: Shell, tmp_path: Path) -> None:
        path = write_picture(tmp_path / ".me.png")  # hidden, but named
        shell.ok("compress", path, "--out", f"{tmp_path}/p2024.10/")
        assert (tmp_path / "p2024.10" / ".me.grain").read_bytes() == sdk.compress(path)
        shell.fails("p2024.11/ is a folder", "compress", "-", "--out", f"{tmp_path}/p2024.11/", status=2)

    def test_folders_keep_their_structure(self, shell: Shell, tmp_path: Path) -> None:
        for index, name in enumerate(["a.png", "b.jpg", "deep/c.webp"]):
            write_picture(tmp_path / "in" / name, seed=index)
        for hidden in ("._a.png", ".thumbnails/a.png", "deep/.b.png"):
            write_picture(tmp_path / "in" / hidden)
        out = shell.ok("compress", tmp_path / "in", "-o", tmp_path / "out")
        written = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*"))
        assert written == ["a.grain", "b.grain", "deep/c.grain"]
        assert out.splitlines()[-1].startswith("3 pictures: ")

    def test_every_picture_of_a_folder_is_compressed_or_fails(self, shell: Shell, tmp_path: Path) -> None:
        source = write_picture(tmp_path / "in" / "a.jpg")
        for suffix in ("jfif", "jpe", "mpo"):
            source.with_suffix(f".{suffix}").write_bytes(source.read_bytes())
        write_picture(tmp_path / "b.apng.png").rename(tmp_path / "in" / "b.apng")
        (tmp_path / "in" / "gone.png").symlink_to("nowhere.png")
        (tmp_path / "in" / "round.png").symlink_to("round.png")
        for name in ("notes.txt", "film.mov", "old.grain"):
            (tmp_path / "in" / name).touch()
        status, out, err = shell("compress", tmp_path / "in", "--out", tmp_path / "out")
        assert status == 1 and out.splitlines()[-1].startswith("5 pictures: ")
        assert "No such file" in err and "gone.png" in err and "round.png" in err and err.endswith("2 of 7 failed\n")

    def test_results_in_a_folder_are_no_pictures(self, shell: Shell, tmp_path: Path) -> None:
        folder = tmp_path / "holiday"
        write_picture(folder / "anna.jpg")
        shell.ok("compress", folder, "--lr")
        for file_format in ("png", "webp", "jpg"):
            shell.ok("restore", folder, "--format", file_format)
        shell.ok("retouch", folder / "anna.jpg")
        suffixes = "jpg grain lr.png restored.png restored.webp restored.jpg retouched.png"
        assert {path.name for path in folder.iterdir()} == {f"anna.{suffix}" for suffix in suffixes.split()}
        write_picture(folder / "ben.jpg")
        status, out, err = shell("compress", folder, "--lr")
        assert status == 1 and out.startswith(f"{folder / 'ben.jpg'} -> {folder / 'ben.grain'}: ")
        assert f"{folder / 'anna.grain'} exists" in err and err.endswith("1 of 2 failed\n")
        rows = shell.json("compress", folder, "--force")["done"]
        assert [Path(row["picture"]).name for row in rows] == ["anna.jpg", "ben.jpg"]
        shell.ok("compress", folder / "anna.restored.png")  # it is named
        assert (folder / "anna.restored.grain").exists()
        for name in ("anna.jpg", "ben.jpg"):
            (folder / name).unlink()
        shell.fails("apart from results of edgegrain", "compress", folder, status=2)

    def test_json(self, shell: Shell, tmp_path: Path, picture: Path) -> None:
        found = shell.json("compress", picture, "--lr", "--bundle", "random-64-lr16")
        payload = sdk.Payload((tmp_path / "me.grain").read_bytes())
        row = {"picture": str(picture), "payload": str(tmp_path / "me.grain"), "lr": str(tmp_path / "me.lr.png")}
        row |= {"bytes": len(payload), "picture_bytes": picture.stat().st_size, "width": 90, "height": 70}
        assert found == {"failed": [], "done": [{**row, "fit": "pad", "bundle": "random-64-lr16"}]}
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "me.lr.png")), payload.lr)

    def test_quality_and_limit(
        self, shell: Shell, tmp_path: Path, picture: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folders = write_qualities(tmp_path / "bundles")
        monkeypatch.setattr(bundle_paths, "bundle_roots", lambda: (tmp_path / "bundles",))
        sizes = {}
        for quality, folder in folders.items():
            (row,) = shell.json("compress", picture, "--quality", quality, "--force")["done"]
            sizes[quality] = row["bytes"]
            assert row["bundle"] == folder.name
        limit = sizes["medium"] - 1
        assert shell.json("compress", picture, "--max-bytes", limit, "--force")["done"][0]["bytes"] == sizes["small"]
        too_few = f"fits into 20 bytes: the smallest payload of this picture has {sizes['tiny']}"
        shell.fails(too_few, "compress", picture, "--quality", "tiny", "--max-bytes", 20, "--force")
        assert shell("compress", picture, "--quality", "large")[0] == 1

    def test_another_bundle_s_damage_does_not_matter(
        self, shell: Shell, picture: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        tmp_path = picture.parent
        write_tiny_bundle(tmp_path / "bundles", DEFAULT_BUNDLE)
        (write_tiny_bundle(tmp_path / "bundles", "other-64-lr16") / "manifest.json").write_text("damaged")
        monkeypatch.setattr(bundle_paths, "bundle_roots", lambda: (tmp_path / "bundles",))
        shell.ok("compress", picture)
        assert not caplog.text
        shell.ok("compress", picture, "--max-bytes", 900, "--force")
        assert "manifest of bundle other-64-lr16 is malformed" in " ".join(caplog.text.split())
        status, out, _ = shell("bundles")
        assert status == 1 and DEFAULT_BUNDLE in out and "other-64-lr16" not in out

    def test_no_result_replaces_a_source(self, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        for name in ("in/a.png", "in/a.lr.png", "a.restored.png", "face.png"):
            write_picture(tmp_path / name)
        write_payload(tmp_path / "a.grain")
        before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
        for arguments in (
            "compress in/a.png --out in/a.png",
            "compress in in/a.lr.png --lr",
            "compress in/a.lr.png --lr --out in/a.grain",
            "restore a.grain a.restored.png",
            "restore a.grain --background in/a.png --out in/a.png",
            "retouch in/a.lr.png --original in/a.png --out in/a.png",
            "demo face.png --out .",
        ):
            shell.fails("is one of the files to read", *arguments.split(), "--force", status=2)
        assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before

    def test_names_that_are_not_utf8_are_printed(self, tmp_path: Path) -> None:
        path = write_picture(tmp_path / "\udcff.png")  # the byte 255
        command = [sys.executable, "-m", "edgegrain", "compress", "--no-align", path]
        done = subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"})
        assert done.returncode == 0 and rb"\udcff.png" in done.stdout, done.stderr

    def test_names_do_not_reach_the_terminal_raw(self, shell: Shell, tmp_path: Path) -> None:
        path = write_picture(tmp_path / "a\x1b[31m\n\u202e b\u00a0.png")
        shown = f"{tmp_path}/a\\x1b[31m\\n\\u202e b\u00a0"
        out = shell.ok("compress", path)
        assert out.startswith(f"{shown}.png -> {shown}.grain: ") and out.count("\n") == 1
        for arguments in (("compress", path), ("restore", path), ("info", path.with_suffix(".grain"))):
            _, out, err = shell(*arguments)
            assert out + err and "\x1b" not in out + err and "\u202e" not in out + err

    def test_does_not_overwrite(self, shell: Shell, tmp_path: Path, picture: Path) -> None:
        (tmp_path / "me.grain").write_text("precious")
        assert shell.fails("--force", "compress", picture).startswith(f"error: {picture}: ")
        assert (tmp_path / "me.grain").read_text() == "precious"
        shell.ok("compress", picture, "--force")
        assert (tmp_path / "me.grain").read_bytes() == sdk.compress(picture)

    def test_without_the_lr_there_is_no_payload(
        self, shell: Shell, tmp_path: Path, picture: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "me.lr.png").write_bytes(b"mine")
        shell.fails("me.lr.png exists", "compress", picture, "--lr")
        unknown = Mock(side_effect=BundleError("no installed bundle has its LR contract"))
        monkeypatch.setattr(sdk.Payload, "lr", property(unknown))
        shell.fails("no installed bundle", "compress", picture, "--lr", "--force")
        assert not (tmp_path / "me.grain").exists() and (tmp_path / "me.lr.png").read_bytes() == b"mine"

    def test_one_failure_does_not_stop_the_others(self, shell: Shell, tmp_path: Path) -> None:
        good, better = write_picture(tmp_path / "a.png"), write_picture(tmp_path / "c.png")
        (tmp_path / "b.png").write_bytes(b"no picture")
        status, out, err = shell("compress", good, tmp_path / "b.png", better)
        assert status == 1
        assert {path.name for path in tmp_path.glob("*.grain")} == {"a.grain", "c.grain"}
        assert err.startswith(f"error: {tmp_path / 'b.png'} is not a picture") and err.count("b.png") == 1
        assert err.endswith("\n1 of 3 failed\n") and err.count("\n") == 2
        assert out.splitlines()[-1].startswith("2 pictures: ")

    def test_a_folder_that_cannot_be_read_does_not_stop_the_others(
        self, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_picture(tmp_path / "in" / "a.png")
        locked = write_picture(tmp_path / "in" / "locked" / "b.png").parent
        lock(monkeypatch, locked)
        status, _, err = shell("compress", tmp_path / "in", "--out", tmp_path / "out")
        assert status == 1 and (tmp_path / "out" / "a.grain").exists()
        assert err == f"error: [Errno 13] Permission denied: '{locked}'\n1 of 2 failed\n"
        status, out, _ = shell("compress", locked, "--json")
        assert status == 1 and [row["file"] for row in json.loads(out)["failed"]] == [str(locked)]

    def test_a_full_disk_names_the_file_that_was_written(
        self, shell: Shell, picture: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "fsync", Mock(side_effect=OSError(errno.ENOSPC, "No space left on device")))
        target = picture.with_suffix(".grain")
        error = f"error: {picture}: [Errno 28] No space left on device: '{target}'\n"
        assert shell("compress", picture) == (1, "", error)

    def test_colliding_names_keep_their_suffix(self, shell: Shell, tmp_path: Path) -> None:
        for index, name in enumerate(["a.jpg", "a.jpeg", "b.jpg", "deep/a.jpg"]):
            write_picture(tmp_path / "in" / name, seed=index)
        out = tmp_path / "out"
        shell.ok("compress", tmp_path / "in", tmp_path / "in" / "a.jpg", "--out", out, "--lr")
        written = {path.relative_to(out).as_posix() for path in out.rglob("*.*")}
        names = ("a.jpg", "a.jpeg", "b", "deep/a")
        assert written == {f"{name}{suffix}" for name in names for suffix in (".grain", ".lr.png")}
        for name in ("a.jpg", "a.jpeg"):
            assert (out / f"{name}.grain").read_bytes() == sdk.compress(tmp_path / "in" / name)

    def test_a_payload_larger_than_its_picture(self, shell: Shell, tmp_path: Path) -> None:
        out = shell.ok("compress", write_picture(tmp_path / "me.png", size=(1, 1)))
        assert "times more than the file" in out and "times more than its pixels" in out

    @pytest.mark.usefixtures("picture")
    def test_wrong_pictures(self, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "empty").mkdir()
        (tmp_path / "taken").write_bytes(b"mine")
        write_picture(tmp_path / "in" / "me.png")
        for arguments, said in (
            ("empty", "holds no file with the suffix"),
            ("me.png --out taken", "taken is a file; name a folder"),
            ("me.png --out taken --force", "such as taken.grain"),
            ("me.png empty/../me.png in/me.png --out out", "would both become out"),
        ):
            shell.fails(said, "compress", *arguments.split(), status=2)
        too_large = shell.fails("90 x 70 pixels, more than 1000", "compress", "me.png", "--max-megapixels", "0.001")
        for error in (too_large, shell.fails("no bundle 'cats'", "compress", "me.png", "--bundle", "cats")):
            assert error.startswith("error: ") and error.count("\n") == 1
        assert (tmp_path / "taken").read_bytes() == b"mine" and not list(tmp_path.rglob("*.grain"))

    def test_interruption_leaves_whole_files(
        self, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        paths = [write_picture(tmp_path / f"{name}.png") for name in "abc"]
        results = sdk.compress(paths[0]), KeyboardInterrupt
        monkeypatch.setattr(sdk.Codec, "compress_fitted", Mock(side_effect=results))
        status, _, err = shell("compress", *paths)
        assert status == 130 and err.startswith("interrupted")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.grain", "a.png", "b.png", "c.png"]
        assert sdk.inspect(tmp_path / "a.grain").bundle == DEFAULT_BUNDLE


class TestPipes:
    def test_a_pipe_is_read_once(self, shell: Shell, tmp_path: Path, picture: Path) -> None:
        pipe, out = tmp_path / "pipe", tmp_path / "out.grain"
        os.mkfifo(pipe)

        def piped(content: bytes, *arguments: object) -> dict[str, Any]:
            threading.Thread(target=pipe.write_bytes, args=(content,), daemon=True).start()
            return dict(shell.json(*arguments)["done"][0])

        row = piped(picture.read_bytes(), "compress", pipe, "--out", out, "--fit", "crop")
        assert row["picture_bytes"] == picture.stat().st_size
        payload = out.read_bytes()
        assert payload == sdk.compress(picture, fit="crop")
        assert piped(payload, "info", pipe)["bytes"] == len(payload)
        row = piped(payload, "restore", pipe, "--background", picture, "--out", tmp_path / "back.png")
        assert (row["width"], row["height"]) == (90, 70)

    def test_standard_output(self, picture: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
        status, out, err = Shell(capsysbinary)("compress", picture, "--out", "-", "--json")
        assert status == 0 and out == sdk.compress(picture)
        assert json.loads(err)["done"][0]["bytes"] == len(out)
        assert list(picture.parent.iterdir()) == [picture]

    def test_standard_input_goes_to_standard_output(
        self, picture: Path, capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        outputs = []
        for command, given in (("compress", picture.read_bytes()), ("restore", sdk.compress(picture))):
            pipe_in(monkeypatch, given)
            status, out, err = Shell(capsysbinary)(command, "-")
            assert status == 0 and err.startswith(b"- -> -: ")
            outputs.append(out)
        assert outputs[0] == sdk.compress(picture)
        assert Image.open(io.BytesIO(outputs[1])).size == (90, 70)

    def test_standard_input_goes_to_a_file(
        self, shell: Shell, tmp_path: Path, picture: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        out = tmp_path / "out.grain"
        pipe_in(monkeypatch, picture.read_bytes())
        assert f"- -> {out}: " in shell.ok("compress", "-", "--out", out)
        assert out.read_bytes() == sdk.compress(picture)
        pipe_in(monkeypatch, out.read_bytes())
        assert "90 x 70 pixels, fit pad" in shell.ok("info", "-")

    def test_a_pipe_needs_one_place(self, shell: Shell, picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_picture(picture.with_name("other.png"))
        monkeypatch.chdir(picture.parent)
        for arguments, said in (
            ("- me.png", "standard input (-) is read alone"),
            ("- --out .", "name the file for standard"),
            ("- --out me", "name the file for standard"),
            ("me.png other.png --out -", "takes the result of one file"),
            (". --out -", "takes the result of one file"),
            ("me.png --lr --out -", "the LR is written next to the payload"),
        ):
            shell.fails(said, "compress", *arguments.split(), status=2)

    def test_a_terminal_is_no_place_for_a_payload(
        self, shell: Shell, picture: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        shell.fails("standard output is a terminal", "compress", picture, "--out", "-", status=2)
