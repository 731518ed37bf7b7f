"""What the zoo holds can be loaded, and belongs to the bundle it names."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from edge_encoder.integer_network import digest, load
from edgegrain.contract.manifest import load_manifest
from export.decoder_sources import ENCODER, TRAINED
from server_decoder.grain.weights import load_trained, read_history


def test_the_default_bundles_grain_loads_with_its_encoder(repository: Path, default_bundle: Path) -> None:
    folder = repository / "zoo" / "faces-256-lr16-grain"
    if not folder.is_dir():
        pytest.skip("needs zoo/faces-256-lr16-grain of the checkout")
    bundle = load_manifest(default_bundle)
    assert digest(load(folder / ENCODER)) == digest(load(bundle.open_file(ENCODER)))
    model = load_trained(folder / TRAINED)  # around a generator with random weights
    assert model.config.prior is not None and model.config.prior.compact
    assert sum(stage["pictures"] for stage in read_history(folder / TRAINED)) > 40_000
    lr = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        invertible, features = model.decoder.forward_features(lr)
        assert invertible.shape == (1, 3, 256, 256) and invertible.isfinite().all()
        assert model.codes is not None
        offsets = model.codes.predict_offsets(features)
    assert sorted(offsets) == [8, 16, 32, 64]
    assert all(offset.abs().max() > 0.1 for offset in offsets.values())
