"""The second identity network sees the right crop at the right scale."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgegrain.metrics.metric_weights import metrics_folder
from edgegrain.metrics.mobileface import CROP_LEFT, CROP_SIDE, CROP_TOP, FILE, MobileFace
from edgegrain.metrics.picture_metrics import unit_batch
from tests.mobileface_network import write_mobileface
from tests.tiny_tfjs import wave

# Of five points in 112x112 crops (insightface) and in FFHQ frames (facexlib, of 512 pixels): eyes, nose, mouth corners.
CROP_POINTS = np.array([[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655],
                        [70.7299, 92.2041]]) / 112
FRAME_POINTS = np.array([[192.98, 239.95], [318.90, 240.19], [256.63, 314.02], [201.26, 371.41],
                         [313.09, 371.15]]) / 512


def test_the_crop_fits_the_points_that_the_network_was_trained_on() -> None:
    crop, frame = CROP_POINTS - CROP_POINTS.mean(0), FRAME_POINTS - FRAME_POINTS.mean(0)
    side = (crop * frame).sum() / (crop**2).sum()
    left, top = FRAME_POINTS.mean(0) - side * CROP_POINTS.mean(0)
    assert [left, top, side] == pytest.approx([CROP_LEFT, CROP_TOP, CROP_SIDE], abs=1e-3)


def test_descriptors_are_of_the_crop_in_levels_and_of_length_one(tmp_path: Path) -> None:
    network = MobileFace(write_mobileface(tmp_path))
    picture = np.full((200, 200, 3), (255, 0, 51), np.uint8)
    picture[:24] = picture[:, :25] = picture[174:] = picture[:, 175:] = 127  # outside the crop: 149 pixels at (26, 25)
    descriptor = network(unit_batch(picture))
    middle = np.repeat(np.array([127.5, -127.5, -76.5]), 9)
    assert descriptor[0].tolist() == pytest.approx((middle / np.linalg.norm(middle)).tolist(), abs=1e-3)


def test_distance_is_one_minus_the_cosine(tmp_path: Path) -> None:
    network = MobileFace(write_mobileface(tmp_path))
    pictures = torch.stack([torch.full((3, 64, 64), value) for value in (0.5, 0.9, -0.5)])
    assert network.distance(pictures, pictures[:1]).tolist() == pytest.approx([0, 0, 2], abs=1e-5)


def test_the_fetched_network_equals_tensorflow_js() -> None:
    """First values of TensorFlow.js 4.22.0's descriptor, brought to length 1."""
    if not (metrics_folder() / FILE).is_file():
        pytest.skip("needs: edgegrain metrics fetch")
    session = MobileFace(metrics_folder())._session
    levels = (127.5 + 100 * wave(1, 112, 112, 3)).astype(np.float32)
    found = session.run(None, {session.get_inputs()[0].name: levels})[0][0]
    assert found.shape == (256,)
    assert (found / np.linalg.norm(found))[:8].tolist() == pytest.approx(
        [0.019586, -0.059597, -0.018109, -0.105431, 0.046249, 0.109585, -0.037895, 0.051696], abs=1e-5)
