"""Reductions are Pillow's and the exact encoder's; blind degradations are drawn from a seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from codec_contract.pixels import dequantize
from edge_encoder.integer_network import run_reference
from edge_encoder.lowering import box_network
from edgegrain.papers.face_sr.training import BlindDegradation, enlarge, reduce_levels, reduction_matrix
from edgegrain.papers.gcfsr.network import GCFSR, GCFSRConfig, GCFSRUpscaler

PICTURES = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
LEVELS = torch.from_numpy(PICTURES).permute(0, 3, 1, 2).float()


def test_area_means_are_the_exact_encoders() -> None:
    expected = run_reference(box_network(64, 16), PICTURES)
    assert np.array_equal(reduce_levels(LEVELS, 16, "area").permute(0, 2, 3, 1).numpy(), expected)


@pytest.mark.parametrize(("kind", "side", "filter"), [
    ("bicubic", 16, Image.Resampling.BICUBIC), ("bicubic", 11, Image.Resampling.BICUBIC),
    ("area", 16, Image.Resampling.BOX)])  # Pillow's box filter does not split samples: whole factors only
def test_reductions_are_pillows(kind: str, side: int, filter: Image.Resampling) -> None:
    plane = PICTURES[0, :, :, 0].astype(np.float32)
    expected = np.asarray(Image.fromarray(plane).resize((side, side), filter))
    matrix = reduction_matrix(64, side, kind)
    assert np.abs(matrix @ plane @ matrix.T - expected).max() < 1e-2


def test_area_means_split_samples() -> None:
    assert np.allclose(reduction_matrix(3, 2, "area"), np.array([[2, 1, 0], [0, 1, 2]]) / 3)


def test_enlargement_is_the_servers() -> None:
    network = GCFSR(GCFSRConfig(64, 8, channel_base=128, channel_max=4, code_width=4, code_channels=2))
    lr = dequantize(reduce_levels(LEVELS, 16, "area"))
    # The float product is computed twice.
    torch.testing.assert_close(enlarge(lr, 64), GCFSRUpscaler(network, 16).enlarge(lr), atol=1e-5, rtol=1e-4)


def test_a_seed_decides_how_a_picture_is_degraded() -> None:
    blind = BlindDegradation(kernel=9, sigma=(0.5, 2.0), factor=(1.0, 4.0))
    picture = torch.from_numpy(np.array(Image.fromarray(PICTURES[0, :8, :8]).resize((64, 64)))).permute(2, 0, 1)
    one, same, other = (blind.degrade(picture, np.random.default_rng(seed)) for seed in (1, 1, 2))
    # A float that rounds to the next level may change a block of the JPEG file in between.
    assert (one - same).abs().mean() < 0.05 < (one - other).abs().mean()
    assert one.shape == picture.shape and torch.equal(one, one.round()) and one.min() >= 0 and one.max() <= 255
    assert 2 < (one - picture).abs().mean() < 60


def test_every_part_of_a_degradation_does_something() -> None:
    picture = torch.full((3, 32, 32), 100.0)
    picture[:, 16:] = 180.0
    keep = {"kernel": 5, "sigma": (1e-3, 1e-3), "factor": (1.0, 1.0), "noise": (0.0, 0.0), "quality": (100, 100)}
    rng = np.random.default_rng(0)

    def change(**parts: object) -> torch.Tensor:
        return (BlindDegradation(**{**keep, **parts}).degrade(picture, rng) - picture).abs()  # type: ignore[arg-type]

    assert change().max() <= 2
    assert change(sigma=(2.0, 2.0))[:, 15:17].min() > 10 and change(sigma=(2.0, 2.0))[:, :10].max() <= 2
    assert change(factor=(4.0, 4.0))[:, 15:17].min() > 10
    assert 5 < change(noise=(10.0, 10.0)).mean() < 11
    with pytest.raises(ValueError, match="odd side"):
        BlindDegradation(kernel=4)
