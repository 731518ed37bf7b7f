"""Help of every command, the version, missing libraries, and the option --align, on tiny bundles."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image

import sdk
from codec_contract.errors import BundleError
from codec_contract.scene import encode_scene
from codec_contract.version import __version__
from edge_encoder.faces.alignment import FaceFinder, FacePoints, FoundFace
from edge_encoder.faces.detection import DetectedFace
from edgegrain.cli.app import CHECK, EXPORT, SERVE, TRAIN, USE, application
from tests.unit.edgegrain.cli.conftest import Shell, write_picture

pytestmark = pytest.mark.usefixtures("tiny_bundles")

ROOT = Path(__file__).resolve().parents[4]
TOP_LEVEL = ("compress", "restore", "info", "bundles", "retouch", "demo", "faces", "serve", "batch", "train",
             "prior", "publish", "pictures", "metrics", "export", "convert", "device-kit", "device-report", "evaluate",
             "models", "doctor")


def commands(group: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command that is not a group."""
    for name, command in (group or typer.main.get_command(application)).commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


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

    @pytest.mark.parametrize(("arguments", "stream", "expected"), [
        (["--help"], "stdout", 1), (["--version"], "stdout", 1), (["comprss"], "stderr", 2)])
    def test_a_stream_that_takes_nothing_is_no_crash(
        self, arguments: list[str], stream: str, expected: int, shell: Shell, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Full(io.StringIO):
            def write(self, text: str) -> int:
                raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(sys, stream, Full())
        status, out, err = shell(*arguments)
        assert status == expected and out == ""
        assert err == ("error: [Errno 28] No space left on device\n" if stream == "stdout" else "")

    def test_the_shell_completes_commands(self) -> None:
        program = "import sys; sys.argv[0] = 'edgegrain'; from edgegrain.cli.main import app; app()"
        for words, found in (("edgegrain comp", "compress"), ("edgegrain restore --str", "--strength")):
            asked = {"_EDGEGRAIN_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
            result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env={**os.environ, **asked},
                                    capture_output=True, text=True, check=True)
            assert result.stdout.split() == [found]

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


class TestFaces:
    @pytest.fixture(autouse=True)
    def face(self, tiny_bundles: Path, tiny_face_bundles: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The finder finds a face in every picture, and a smaller one where all are wanted."""
        faces = [FoundFace(DetectedFace(np.array([x, 34.0]), side, np.zeros((6, 2)), 0.9),
                           FacePoints((x - 5, 30), (x + 5, 30), (x, 40))) for x, side in ((45.0, 36), (70.0, 34))]
        monkeypatch.setattr(FaceFinder, "find", lambda self, rgb, every=False: faces[: 2 if every else 1])

    def test_there_and_back_into_a_background(self, shell: Shell, tmp_path: Path) -> None:
        path, out = write_picture(tmp_path / "group.png"), tmp_path / "back.png"
        status, stdout, _ = shell("compress", path, "--json")
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

    def test_a_background_belongs_to_one_payload(self, shell: Shell, tmp_path: Path) -> None:
        paths = [write_picture(tmp_path / name) for name in ("a.png", "b.png")]
        shell("compress", *paths)
        grains = [path.with_suffix(".grain") for path in paths]
        status, _, err = shell("restore", *grains, "--background", paths[0])
        assert status == 2 and "it takes one payload, got 2" in err

    def test_every_face_has_a_file(self, shell: Shell, tmp_path: Path) -> None:
        path = write_picture(tmp_path / "group.png")
        status, stdout, _ = shell("compress", path, "--all-faces", "--json")
        row = json.loads(stdout)["done"][0]
        files = [tmp_path / "group.1.grain", tmp_path / "group.2.grain"]
        assert status == 0 and row["payloads"] == list(map(str, files))
        assert [file.read_bytes() for file in files] == sdk.compress_faces(path)
        assert row["bytes"] == [file.stat().st_size for file in files]
        status, _, err = shell("compress", path, "--all-faces")
        assert status == 1 and "group.1.grain exists" in err
        status, out, _ = shell("compress", path, "--all-faces", "--out", tmp_path / "there")
        assert status == 0 and out.count("there/group.") == 2

    def test_a_scene(self, shell: Shell, tmp_path: Path) -> None:
        path = write_picture(tmp_path / "group.png")
        status, out, _ = shell("compress", path, "--scene", "--max-bytes", "5000")
        scene = tmp_path / "group.grain"
        assert status == 0 and f"group.grain: {scene.stat().st_size:,} bytes, 2 faces and a background" in out
        assert scene.read_bytes() == sdk.compress_scene(path, max_bytes=5000)
        status, out, _ = shell("info", scene)
        assert status == 0 and "2 faces" in out and "90 x 70 pixels" in out
        assert json.loads(shell("info", scene, "--json")[1])["done"][0]["faces"] == 2
        parsed = sdk.Scene(scene.read_bytes()).parsed
        damaged = encode_scene(parsed.faces, parsed.original_size, parsed.background_webp[:44])
        (tmp_path / "damaged.grain").write_bytes(damaged)
        status, _, err = shell("info", tmp_path / "damaged.grain")
        assert status == 1 and "the background of the scene is damaged" in err
        assert shell("restore", scene)[0] == 0
        restored = np.asarray(Image.open(tmp_path / "group.restored.png"))
        np.testing.assert_array_equal(restored, np.asarray(sdk.restore(scene)))
        status, _, err = shell("compress", path, "--scene", "--max-bytes", "50", "--force")
        assert status == 1 and "no quality fits into 50 bytes" in err

    def test_the_whole_picture(self, shell: Shell, tmp_path: Path) -> None:
        path = write_picture(tmp_path / "me.png")
        for arguments, fit in ((["--no-align"], "pad"), (["--fit", "crop"], "crop"), ([], "align")):
            assert shell("compress", path, *arguments, "--force")[0] == 0
            assert sdk.inspect(tmp_path / "me.grain").fit == fit

    def test_what_does_not_go_together(self, shell: Shell, tmp_path: Path) -> None:
        path = write_picture(tmp_path / "me.png")
        for arguments, message in (
            (["--all-faces", "--fit", "crop"], "--all-faces does not take it"),
            (["--all-faces", "--scene"], "--all-faces does not take it"),
            (["--scene", "--no-align"], "--scene does not take it"), (["--scene", "--lr"], "--scene does not take it"),
            (["--all-faces", "--out", "-"], "each face has a file of its own"),
            (["--require-face", "--fit", "pad"], "the face is checked that is cut out"),
        ):
            status, _, err = shell("compress", path, *arguments)
            assert status == 2 and message in " ".join(err.split()), arguments
        assert list(tmp_path.iterdir()) == [path]

    def test_options_that_a_service_has_not(self, shell: Shell, tmp_path: Path) -> None:
        path = write_picture(tmp_path / "me.png")
        status, _, err = shell("compress", path, "--max-megapixels", "0.5", "--remote", "http://localhost:1")
        assert status == 2 and "the service has its own limit" in err
        for option, value in (("--seed", "1"), ("--device", "cuda")):
            status, _, err = shell("restore", path, option, value, "--remote", "http://localhost:1")
            assert status == 2 and option in err


class TestPayloads:
    def test_a_payload_whose_lr_is_not_known_is_not_written(
        self, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def unknown(payload: sdk.Payload) -> np.ndarray:
            raise BundleError("no installed bundle has its LR contract")

        monkeypatch.setattr(sdk.Payload, "lr", property(unknown))
        path = write_picture(tmp_path / "me.png")
        status, _, err = shell("compress", path, "--lr")
        assert status == 1 and "no installed bundle" in err and list(tmp_path.iterdir()) == [path]

    def test_an_lr_that_exists_is_refused_before_the_payload_is_written(self, shell: Shell, tmp_path: Path) -> None:
        path = write_picture(tmp_path / "me.png")
        (tmp_path / "me.lr.png").write_bytes(b"mine")
        status, _, err = shell("compress", path, "--lr")
        assert status == 1 and "me.lr.png exists" in err and not (tmp_path / "me.grain").exists()
