"""GLEAN in the zoo, around the generator that ``edgegrain prior fetch`` writes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from codec_contract.errors import ModelError
from codec_contract.quantization import dequantize
from edge_encoder.preprocessing import load_picture
from edgegrain.metrics.lpips import LPIPS
from edgegrain.papers.face_sr.bundle import load_glean, read_config
from edgegrain.papers.glean.network import GLEAN, GLEANConfig
from export.decoder.sources import described_prior


@pytest.fixture(scope="module")
def glean(repository: Path) -> GLEAN:
    path = repository / "zoo" / "glean-faces-256-lr16" / "glean.safetensors"
    if not path.is_file():
        pytest.skip("needs zoo/glean-faces-256-lr16 of the checkout")
    config = read_config(path)
    assert isinstance(config, GLEANConfig)
    try:
        prior = described_prior(config.prior)
    except ModelError as error:
        pytest.skip(str(error))  # edgegrain prior fetch
    return load_glean(path, prior)


@torch.inference_mode()
def test_it_restores_a_face(glean: GLEAN, shared_data: Path, shared_weights: Path) -> None:
    rgb = load_picture(sorted((shared_data / "dev_eval" / "faces_256").iterdir())[0])
    hr = torch.tensor(rgb[None]).permute(0, 3, 1, 2).float()
    lr = torch.nn.functional.avg_pool2d(hr, rgb.shape[0] // glean.config.lr).round()
    restored = glean(dequantize(lr)).clamp(-1, 1)
    score = LPIPS(shared_weights)(restored, dequantize(hr)).item()
    print(f"LPIPS-Alex {score:.3f}")
    assert score < 0.22  # bicubic enlargement: .6
