"""Shards of generated pictures: complete, marked, continued after an interruption."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from codec_contract.errors import EdgegrainError
from edgegrain.pictures.stored_pictures import stored_pictures
from edgegrain.training import generated_shards
from edgegrain.training.generated_shards import GeneratedSet, write_generated
from server_decoder.mobile_stylegan.generator import MobileStyleGAN, MobileStyleGANConfig

WANTED = GeneratedSet(10, seed=3)


@pytest.fixture(scope="module")
def prior() -> MobileStyleGAN:
    torch.manual_seed(0)
    config = MobileStyleGANConfig(32, "rgb", 256, 8, code_width=8, mapping_layers=1)
    return MobileStyleGAN(config).eval().requires_grad_(False)


@pytest.fixture(autouse=True)
def four_per_shard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generated_shards, "PER_SHARD", 4)


def test_the_pictures_are_there_differ_and_are_marked(prior: MobileStyleGAN, tmp_path: Path) -> None:
    shards = write_generated(prior, WANTED, tmp_path)
    assert [path.name for path in shards] == [f"generated-32-{index:05}.tar" for index in range(3)]
    stored = stored_pictures(tmp_path)
    assert [picture.name for picture in stored] == [f"generated_{index:06}.webp" for index in range(10)]
    pixels = set()
    for picture in stored:
        with Image.open(picture.open()) as image:
            assert image.size == (32, 32) and b"trainedAlgorithmicMedia" in image.info["xmp"]
            pixels.add(image.convert("RGB").tobytes())
    assert len(pixels) > 7  # those of a generator with random weights resemble each other


def test_an_interrupted_call_continues(prior: MobileStyleGAN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(part: float, line: str) -> None:
        if line.startswith("8 "):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_generated(prior, WANTED, tmp_path / "a", report=interrupted)
    first, = (tmp_path / "a").glob("*.tar")
    before = first.stat().st_mtime_ns
    lines: list[str] = []
    again = write_generated(prior, WANTED, tmp_path / "a", report=lambda part, line: lines.append(line))
    assert again[0] == first and first.stat().st_mtime_ns == before and lines[0] == f"{first.name} is there"
    for a, b in zip(again, write_generated(prior, WANTED, tmp_path / "b"), strict=True):
        assert _pictures(a) == _pictures(b)


def test_a_set_of_other_settings_is_replaced_only_when_told(prior: MobileStyleGAN, tmp_path: Path) -> None:
    write_generated(prior, WANTED, tmp_path)
    other = replace(WANTED, count=3, seed=4)
    with pytest.raises(EdgegrainError, match="other settings"):
        write_generated(prior, other, tmp_path)
    assert len(stored_pictures(tmp_path)) == 10
    shard, = write_generated(prior, other, tmp_path, force=True)
    assert list(tmp_path.glob("*.tar")) == [shard] and len(stored_pictures(tmp_path)) == 3


def test_truncation_pulls_towards_the_mean_face(prior: MobileStyleGAN, tmp_path: Path) -> None:
    spread = []
    for psi in (0.1, 1.0):
        shards = write_generated(prior, GeneratedSet(4, psi=(psi, psi)), tmp_path / str(psi))
        opened = [Image.open(io.BytesIO(content)) for content in _pictures(shards[0])]
        pictures = [np.asarray(image.convert("RGB"), float) for image in opened]
        spread.append(np.std(pictures, axis=0).mean())
    assert spread[0] < 0.5 * spread[1]
    with pytest.raises(ValueError, match="psi"):
        GeneratedSet(4, psi=(0.9, 0.5))


def _pictures(shard: Path) -> list[bytes]:
    with tarfile.open(shard) as tar:
        return [tar.extractfile(member).read() for member in tar]  # type: ignore[union-attr]
