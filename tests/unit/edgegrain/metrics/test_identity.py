"""Identity distance with the shared weights: against the reference network, and on real persons."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from codec_contract.quantization import dequantize
from edgegrain.metrics.identity import FILE, FaceIdentity


def unit(rgb: np.ndarray) -> Tensor:
    """uint8 [H, W, 3] -> float [1, 3, H, W] in [-1, 1]."""
    return dequantize(torch.from_numpy(np.array(rgb)).permute(2, 0, 1)[None].float())


@pytest.fixture(scope="module")
def identity(shared_weights: Path) -> FaceIdentity:
    return FaceIdentity(shared_weights)


@torch.no_grad()
def test_equals_the_reference_network(identity: FaceIdentity, shared_weights: Path, portrait: np.ndarray) -> None:
    spec = importlib.util.spec_from_file_location("reference", shared_weights / "face_identity_reference.py")
    assert spec is not None and spec.loader is not None
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    left, top = round(reference.CROP_LEFT * 256), round(reference.CROP_TOP * 256)
    side = round(reference.CROP_SIDE * 256)
    face = torch.from_numpy(portrait[top : top + side, left : left + side].copy()).permute(2, 0, 1)[None].float()
    face = torch.nn.functional.interpolate(face, (150, 150), mode="bilinear", antialias=True, align_corners=False)
    expected = reference.FaceIdentity(shared_weights / FILE)(face)
    descriptor = identity(unit(portrait))
    assert descriptor.shape == (1, 128)
    assert torch.allclose(descriptor, expected, atol=1e-4)


@torch.no_grad()
def test_tells_persons_apart(identity: FaceIdentity, shared_data: Path) -> None:
    """Below 0.6 for the same person (flipped, darker), above it between almost all pairs of others."""
    paths = sorted((shared_data / "dev_eval" / "faces_256").iterdir())[:8]
    faces = torch.cat([unit(np.asarray(Image.open(path).convert("RGB"))) for path in paths])
    same = identity.distance((faces.flip(3) - 0.1).clamp(-1, 1), faces)
    assert float(same.max()) < 0.6
    first, second = torch.triu_indices(8, 8, offset=1)
    descriptors = identity(faces)
    between = (descriptors[first] - descriptors[second]).norm(dim=1)
    assert float(between.median()) > 0.7
    assert float(between.mean()) > 2 * float(same.mean())


@torch.no_grad()
def test_no_distance_to_itself_and_any_size(identity: FaceIdentity, portrait: np.ndarray) -> None:
    picture = unit(portrait)
    assert float(identity.distance(picture, picture)) == pytest.approx(0, abs=1e-4)
    double = torch.nn.functional.interpolate(picture, scale_factor=2, mode="bicubic")
    assert float((identity(double) - identity(picture)).norm()) < 0.3
