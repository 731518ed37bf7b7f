"""The networks of photographs in the zoo: small, of the named shape, better than bicubic on unseen pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.quality.rescaling import bicubic_pair, luma_psnr
from codec_contract.lr_coder.coder_tables import CoderTables
from edge_encoder.preprocessing import load_picture
from edgegrain.metrics.lpips import LPIPS
from edgegrain.metrics.picture_metrics import unit_batch
from edgegrain.papers.irn.bundle import load_irn, read_training
from edgegrain.papers.irn.network import IRN, PRESETS, round_to_levels

NETWORKS = {"photos-x2": "irn-x2-light", "photos-x4": "irn-x4-light", "photos-x4-wide": "irn-x4-wide",
            "photos-x4-plus": "irn-x4-light"}
"""Folder -> shape of its network."""


@pytest.fixture(scope="module", params=NETWORKS)
def folder(request: pytest.FixtureRequest, repository: Path) -> Path:
    path = repository / "zoo" / request.param
    if not path.is_dir():
        pytest.skip(f"needs zoo/{request.param} of the checkout")
    return path


@pytest.fixture(scope="module")
def irn(folder: Path) -> IRN:
    return load_irn(folder / "irn.safetensors")


def test_it_is_the_named_network_with_its_coder(folder: Path, irn: IRN) -> None:
    assert irn.config == PRESETS[NETWORKS[folder.name]]
    assert sum(file.stat().st_size for file in folder.iterdir()) < 5_000_000
    assert read_training(folder / "irn.safetensors")["crops_seen"] > 10_000
    assert CoderTables.from_json((folder / "coder.json").read_bytes()) != CoderTables.default()


@torch.inference_mode()
def test_it_beats_bicubic_rescaling(irn: IRN, shared_data: Path, shared_weights: Path) -> None:
    factor = irn.config.factor
    rgb = load_picture(shared_data / "dev_eval" / "set5" / "butterfly.png")
    rgb = rgb[: rgb.shape[0] // factor * factor, : rgb.shape[1] // factor * factor]
    x = torch.tensor(rgb).permute(2, 0, 1)[None].float() / 255
    y, z = irn(x)
    assert (irn.inverse(y, z) - x).abs().max() < 1e-4
    values = irn.inverse(round_to_levels(y), torch.zeros_like(z)).clamp(0, 1)
    restored = (255 * values[0].permute(1, 2, 0)).round().numpy().astype(np.uint8)
    lr, bicubic = bicubic_pair(rgb, factor)
    small = (255 * y.clamp(0, 1)[0].permute(1, 2, 0)).round().numpy()
    assert np.abs(small - lr).mean() < 4.5  # levels: y looks like the bicubic reduction
    assert luma_psnr(restored, rgb, factor) > luma_psnr(bicubic, rgb, factor) + 5
    lpips = LPIPS(shared_weights)
    distance = [lpips(unit_batch(picture), unit_batch(rgb)).item() for picture in (restored, bicubic)]
    assert distance[0] < 0.5 * distance[1]
