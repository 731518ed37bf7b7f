"""The default bundle does what the README says, through the public interface."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sdk
from codec_contract.bundle.paths import DEFAULT_BUNDLE, installed_bundles
from edgegrain.cli.doctor import check_bundle
from edgegrain.metrics.psnr_ssim import psnr

pytestmark = pytest.mark.skipif(
    DEFAULT_BUNDLE not in installed_bundles(), reason=f"the bundle {DEFAULT_BUNDLE} is not installed")


def test_portrait_there_and_back(tmp_path: Path, repository: Path) -> None:
    path = repository / "edgegrain" / "demo" / "portrait_768.jpg"
    original = Image.open(path).convert("RGB")
    payload = sdk.compress(path)
    assert 300 < len(payload) < 784  # below the 16 bytes of frame and the LR's own 768
    assert payload.lr.shape == (16, 16, 3) and payload.bundle == DEFAULT_BUNDLE
    assert sdk.inspect(payload.save(tmp_path / "me.grain")).body_checked
    restored = sdk.restore(tmp_path / "me.grain")
    assert restored.size == original.size
    enlarged = original.resize((16, 16), Image.Resampling.BOX).resize(original.size, Image.Resampling.BICUBIC)
    # More than an enlarged thumbnail of as many pixels, by a margin.
    rgb = np.asarray(original)
    assert psnr(np.asarray(restored), rgb) > psnr(np.asarray(enlarged), rgb) + 1.0


def test_healthy() -> None:
    checks = list(check_bundle(installed_bundles()[DEFAULT_BUNDLE]))
    assert [check.state for check in checks if "decoder" not in check.name] == ["ok", "ok"], checks
    assert checks[2].state != "broken", checks


def test_restores_within_a_second_of_processor_time_a_core() -> None:
    codec = sdk.Codec(threads=2)
    codec.warm_up()
    lr = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    seconds = []
    for _ in range(3):
        start = time.process_time()
        codec.restore(lr)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 2.0  # two threads, one second each


def test_size() -> None:
    info = next(bundle for bundle in sdk.bundles() if bundle.id == DEFAULT_BUNDLE)
    assert info.bytes <= 24e6
    assert (info.hr, info.lr, info.domain) == (256, 16, "faces")
