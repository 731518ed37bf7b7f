"""Help of every command, the version, missing libraries, and the option --align, on tiny bundles."""

from __future__ import annotations

import errno
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image

import sdk
from codec_contract.errors import BundleError
from codec_contract.version import __version__
from edge_encoder.faces.alignment import FacePoints
from edgegrain.cli.app import CHECK, EXPORT, SERVE, TRAIN, USE, application
from sdk import align_or_fit as alignment
from tests.unit.edgegrain.cli.conftest import Shell, write_picture

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

    @pytest.mark.parametrize("arguments", [("compress", "--align"), ("compress", "--align-auto"), ("faces", "--align")])
    def test_an_aligned_picture_takes_no_fit(self, arguments: tuple[str, str], shell: Shell, tmp_path: Path) -> None:
        (tmp_path / "junk.png").write_bytes(b"not read")
        status, out, err = shell(*arguments, tmp_path / "junk.png", "--fit", "crop")
        assert status == 2 and out == "" and "leave --fit or the alignment out" in " ".join(err.split())

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
