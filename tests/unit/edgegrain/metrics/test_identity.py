"""Identity distance with the shared weights: against the reference network, and on real persons."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from edgegrain.metrics.identity import MOBILEFACE_CROP, FaceIdentity, MobileFace
from edgegrain.metrics.picture_metrics import unit_batch
from edgegrain.metrics.weights import DLIB_FILE, MOBILEFACE_FILE, metrics_folder
from tests.mobileface_network import write_mobileface
from tests.tiny_tfjs import wave

FETCHED = metrics_folder()  # before tests are given an empty one


@pytest.fixture(scope="module")
def identity(shared_weights: Path) -> FaceIdentity:
    return FaceIdentity(shared_weights)


@torch.no_grad()
def test_equals_the_reference_network(identity: FaceIdentity, shared_weights: Path, portrait: np.ndarray) -> None:
    spec = importlib.util.spec_from_file_location("reference", shared_weights / "face_identity_reference.py")
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    left, top = round(reference.CROP_LEFT * 256), round(reference.CROP_TOP * 256)
    side = round(reference.CROP_SIDE * 256)
    face = torch.from_numpy(portrait[top : top + side, left : left + side].copy()).permute(2, 0, 1)[None].float()
    face = torch.nn.functional.interpolate(face, (150, 150), mode="bilinear", antialias=True, align_corners=False)
    expected = reference.FaceIdentity(shared_weights / DLIB_FILE)(face)
    descriptor = identity(unit_batch(portrait))
    assert descriptor.shape == (1, 128)
    assert torch.allclose(descriptor, expected, atol=1e-4)


@torch.no_grad()
def test_tells_persons_apart(identity: FaceIdentity, shared_data: Path) -> None:
    """Below 0.6 for the same person (flipped, darker), above it between almost all pairs of others."""
    paths = sorted((shared_data / "dev_eval" / "faces_256").iterdir())[:8]
    faces = torch.cat([unit_batch(np.asarray(Image.open(path).convert("RGB"))) for path in paths])
    same = identity.distance((faces.flip(3) - 0.1).clamp(-1, 1), faces)
    assert float(same.max()) < 0.6
    first, second = torch.triu_indices(8, 8, offset=1)
    descriptors = identity(faces)
    between = (descriptors[first] - descriptors[second]).norm(dim=1)
    assert float(between.median()) > 0.7
    assert float(between.mean()) > 2 * float(same.mean())


@torch.no_grad()
def test_no_distance_to_itself_and_any_size(identity: FaceIdentity, portrait: np.ndarray) -> None:
    picture = unit_batch(portrait)
    assert float(identity.distance(picture, picture)) == pytest.approx(0, abs=1e-4)
    double = torch.nn.functional.interpolate(picture, scale_factor=2, mode="bicubic")
    assert float((identity(double) - identity(picture)).norm()) < 0.3


# Of five points in 112x112 crops (insightface) and in FFHQ frames (facexlib, of 512 pixels): eyes, nose, mouth corners.
CROP_POINTS = (
    np.array([[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]) / 112
)
FRAME_POINTS = (
    np.array([[192.98, 239.95], [318.90, 240.19], [256.63, 314.02], [201.26, 371.41], [313.09, 371.15]]) / 512
)


def test_the_crop_fits_the_points_that_the_network_was_trained_on() -> None:
    crop, frame = CROP_POINTS - CROP_POINTS.mean(0), FRAME_POINTS - FRAME_POINTS.mean(0)
    side = (crop * frame).sum() / (crop**2).sum()
    left, top = FRAME_POINTS.mean(0) - side * CROP_POINTS.mean(0)
    assert [left, top, side] == pytest.approx(MOBILEFACE_CROP, abs=1e-3)


def test_descriptors_are_of_the_crop_in_levels_of_length_one_and_compared_by_their_cosine(tmp_path: Path) -> None:
    write_mobileface(tmp_path)
    network = MobileFace(tmp_path)
    picture = np.full((200, 200, 3), (255, 0, 51), np.uint8)
    picture[:24] = picture[:, :25] = picture[174:] = picture[:, 175:] = 127  # outside the crop: 149 pixels at (26, 25)
    descriptor = network(unit_batch(picture))
    middle = np.repeat(np.array([127.5, -127.5, -76.5]), 9)
    assert descriptor[0].tolist() == pytest.approx((middle / np.linalg.norm(middle)).tolist(), abs=1e-3)
    pictures = torch.stack([torch.full((3, 64, 64), value) for value in (0.5, 0.9, -0.5)])
    assert network.distance(pictures, pictures[:1]).tolist() == pytest.approx([0, 0, 2], abs=1e-5)


def test_the_fetched_network_equals_tensorflow_js() -> None:
    """First values of TensorFlow.js 4.22.0's descriptor, brought to length 1."""
    if not (FETCHED / MOBILEFACE_FILE).is_file():
        pytest.skip("needs: edgegrain metrics fetch")
    session = MobileFace(FETCHED)._session
    levels = (127.5 + 100 * wave(1, 112, 112, 3)).astype(np.float32)
    found = session.run(None, {session.get_inputs()[0].name: levels})[0][0]
    assert found.shape == (256,)
    assert (found / np.linalg.norm(found))[:8].tolist() == pytest.approx(
        [0.019586, -0.059597, -0.018109, -0.105431, 0.046249, 0.109585, -0.037895, 0.051696], abs=1e-5
    )
