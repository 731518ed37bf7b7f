"""The decoder of the default bundle: its stages, its fine scales, and pictures of unseen faces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import sdk
from codec_contract.bundle.manifest import Manifest, load_manifest
from codec_contract.quantization import dequantize
from edgegrain.metrics.lpips import LPIPS
from edgegrain.metrics.periodic_peaks import periodic_peaks
from edgegrain.pictures.stored_pictures import list_pictures, original_of
from export.decoder.sources import bundle_decoder
from server_decoder.grain.rrdb_decoder import RRDBDecoder


@pytest.fixture(scope="module")
def manifest(default_bundle: Path) -> Manifest:
    return load_manifest(default_bundle)


def test_all_pictures_of_its_training_are_counted(manifest: Manifest) -> None:
    stages = manifest.training["stages"]
    assert {"stage": "1", "pictures": 80640} in stages  # deeper encoder and decoder together
    assert sum(stage["pictures"] for stage in stages) == manifest.training["pictures_seen"] > 300_000


def test_its_fine_scales_have_capacity(manifest: Manifest) -> None:
    decoder = bundle_decoder(manifest)
    assert isinstance(decoder, RRDBDecoder)
    assert [(scale.size, scale.channels, scale.residual) for scale in decoder.config.scales[-2:]] == [
        (128, 64, 3), (256, 32, 2)]
    assert manifest.entry(manifest.decoder["file"]).size < 8e6


@torch.inference_mode()
def test_it_restores_unseen_faces_without_a_grid(default_bundle: Path, shared_weights: Path, shared_data: Path) -> None:
    lpips, codec = LPIPS(shared_weights), sdk.Codec(default_bundle, threads=1)
    distances, peaks = [], []
    for path in list_pictures(shared_data / "dev_eval" / "faces_256")[:4]:
        original = original_of(path, 256)
        restored = np.asarray(codec.restore(codec.compress(original)))
        x, target = (dequantize(torch.from_numpy(picture.astype(np.float32)).permute(2, 0, 1)[None])
                     for picture in (restored, original))
        distances.append(float(lpips(x, target)))
        peaks.append(periodic_peaks(restored)[8])
    assert np.mean(distances) < 0.15  # of the classical codecs with as few bytes the best has 0.49
    assert np.mean(peaks) < 3  # dB; originals have 1.8, bundle 0.5.0 had 16
