"""``edgegrain prior``: fetching without a network in reach, converting, sampling."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sdk
from codec_contract.quantization import quantize
from edgegrain.cli.main import app
from edgegrain.cli.options import DEFAULT_PRIOR
from edgegrain.installation import package_download
from edgegrain.papers.stylegan import prior_import as mobile_stylegan_import
from edgegrain.pictures.prior_samples import MIXTURES, mix_codes, truncated_codes
from edgegrain.pictures.sheets import GAP, MARGIN
from sdk.generated_mark import GENERATED
from server_decoder import prior_store
from server_decoder.mobile_stylegan.generator import MobileStyleGAN, MobileStyleGANConfig

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


def run(capture: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as leaving:
        app(["prior", *map(str, arguments)])
    output = capture.readouterr()
    return int(leaving.value.code or 0), output.out, output.err


def fake_pip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str) -> None:
    """An interpreter whose ``-m pip`` is this shell script."""
    interpreter = tmp_path / "python"
    interpreter.write_text(f"#!/bin/sh\n{script}\n")
    interpreter.chmod(0o755)
    monkeypatch.setattr(package_download.sys, "executable", str(interpreter))


def test_default_is_the_stores() -> None:
    assert DEFAULT_PRIOR == prior_store.DEFAULT_PRIOR


def test_fetch_from_a_given_wheel(capsys: pytest.CaptureFixture[str], cache: Path, wheel: Path) -> None:
    status, out, _ = run(capsys, "fetch", "--wheel", wheel)
    assert status == 0 and f"{DEFAULT_PRIOR} is ready: {cache / FILE}" in out and "non-commercial use only" in out
    written = (cache / FILE).stat().st_mtime_ns
    status, out, _ = run(capsys, "fetch")  # no wheel, no download: it is there
    assert status == 0 and "is already there" in out and (cache / FILE).stat().st_mtime_ns == written
    prior = prior_store.load_prior(size=32)
    assert prior.size == 32 and prior.code_count == 7


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for pip is a shell script")
def test_fetch_downloads_by_name_and_version(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_pip(monkeypatch, tmp_path, 'echo "$@"; for last; do :; done; printf wheel > "$last/random_face.whl"')
    status, out, err = run(capfd, "fetch", "--out", tmp_path / "here", "--json")
    row = json.loads(out)
    assert status == 0 and row["fetched"] and row["path"] == str(tmp_path / "here" / FILE)
    assert "-m pip download --no-deps" in err and " random-face==2021.7.21.1 --dest " in err
    status, out, _ = run(capfd, "fetch", "--out", tmp_path / "here", "--json")
    assert status == 0 and not json.loads(out)["fetched"]


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for pip is a shell script")
@pytest.mark.parametrize("script", ["exit 1", "exit 0"])
def test_fetch_without_a_package_index(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: Path, script: str
) -> None:
    fake_pip(monkeypatch, tmp_path, script)
    status, _, err = run(capsys, "fetch")
    assert status == 1 and "could not download random-face==2021.7.21.1" in err and "--wheel FILE" in err
    monkeypatch.setattr(package_download.sys, "executable", str(tmp_path / "missing"))
    status, _, err = run(capsys, "fetch")
    assert status == 1 and "--wheel FILE" in err and not cache.exists()


def test_fetch_of_another_name(capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = run(capsys, "fetch", "--name", "cats")
    assert status == 1 and f"no published prior 'cats'; choose one of {DEFAULT_PRIOR}" in err


def test_sample_sheet(capsys: pytest.CaptureFixture[str], tmp_path: Path, wheel: Path) -> None:
    out = tmp_path / "sheet.png"
    status, _, err = run(capsys, "sample", "--out", tmp_path / "x.gif")  # before the generator is looked for
    assert status == 2 and ".png or .jpg, got .gif" in " ".join(err.split())
    out.touch()
    status, _, err = run(capsys, "sample", "--out", out)
    assert status == 1 and "sheet.png exists" in err
    out.unlink()
    status, _, err = run(capsys, "sample", "--size", 32, "--out", out)
    assert status == 1 and "run: edgegrain prior fetch" in err
    run(capsys, "fetch", "--wheel", wheel)
    status, text, _ = run(capsys, "sample", "--count", 3, "--seed", 5, "--psi", 0.8, "--size", 32, "--out", out)
    assert status == 0 and "3 pictures" in text
    sheet = np.asarray(Image.open(out))
    assert sheet.shape == (2 * MARGIN + 64 + GAP, 2 * MARGIN + 64 + GAP, 3)
    sheet = sheet[MARGIN:-MARGIN, MARGIN:-MARGIN]
    prior = prior_store.load_prior(size=32)
    pictures = prior(truncated_codes(prior, 3, 5, 0.8)).picture.permute(0, 2, 3, 1).numpy()
    made = [sheet[:32, :32], sheet[:32, 32 + GAP :], sheet[32 + GAP :, :32]]
    np.testing.assert_allclose(np.stack(made).astype(int), quantize(pictures).astype(int), atol=1)

    assert sdk.read_mark(out) == sdk.GeneratedMark(GENERATED)

    assert run(capsys, "sample", "--size", 32, "--out", out)[0] == 1  # exists
    status, text, _ = run(capsys, "sample", "--size", 32, "--out", out, "--no-mark", "--force", "--json")
    assert sdk.read_mark(out) is None
    assert status == 0 and json.loads(text)["sheet"] == str(out) and json.loads(text)["count"] == 16
    status, _, err = run(capsys, "sample", "--size", 48, "--out", tmp_path / "x.png")
    assert status == 1 and "cannot cut this generator to 48x48" in err


def test_mixing_sheet(capsys: pytest.CaptureFixture[str], tmp_path: Path, wheel: Path) -> None:
    run(capsys, "fetch", "--wheel", wheel)
    out = tmp_path / "mix.png"
    status, text, _ = run(capsys, "sample", "--mix", "--count", 2, "--size", 32, "--psi", 1, "--out", out)
    assert status == 0 and "2 pairs" in text
    sheet = np.asarray(Image.open(out)).astype(int)
    assert sheet.shape[1] == 2 * MARGIN + 5 * 32 + 4 * GAP
    prior = prior_store.load_prior(size=32)
    first, second = truncated_codes(prior, 4, 0, 1.0).chunk(2)
    coarse = mix_codes(prior, first, second, *MIXTURES["coarse, 4 to 8"])
    assert torch.equal(coarse[:, :3], second[:, :3]) and torch.equal(coarse[:, 3:], first[:, 3:])
    wanted = quantize(prior(coarse).picture[0].permute(1, 2, 0).numpy()).astype(int)
    first_row = sheet[-MARGIN - 64 - GAP : -MARGIN - 32 - GAP]
    assert np.abs(first_row[:, MARGIN + 32 + GAP : MARGIN + 64 + GAP] - wanted).max() <= 1
