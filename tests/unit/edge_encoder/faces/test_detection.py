"""Faces in the portrait that ships with the package: shrunk, turned, doubled, cut off."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from edge_encoder.faces.suitability import roll, share_outside, yaw
from PIL import Image

from codec_contract.errors import ModelError
from edge_encoder.faces.detection import FaceDetector


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return FaceDetector()


def on_noise(portrait: np.ndarray, size: tuple[int, int], corner: tuple[int, int], side: int) -> np.ndarray:
    """The portrait in a larger picture of soft patches."""
    cells = np.random.default_rng(1).integers(60, 190, (6, 8, 3), dtype=np.uint8)
    picture = Image.fromarray(cells).resize(size, Image.Resampling.BICUBIC)
    picture.paste(Image.fromarray(portrait).resize((side, side), Image.Resampling.LANCZOS), corner)
    return np.asarray(picture)


def test_the_points_of_a_face(detector: FaceDetector, portrait: np.ndarray) -> None:
    (face,) = detector.find(portrait)
    left_eye, right_eye, nose, mouth, left_ear, right_ear = face.points
    assert np.hypot(*(left_eye - (91, 116))) < 10 and np.hypot(*(right_eye - (169, 117))) < 10
    assert left_ear[0] < left_eye[0] < nose[0] < right_eye[0] < right_ear[0]
    assert left_eye[1] < nose[1] < mouth[1] < face.centre[1] + face.side / 2
    assert 130 < face.side < 220 and 0.7 < face.score <= 1
    assert abs(roll(face)) < 5 and abs(yaw(face)) < 15 and share_outside(face, (256, 256)) < 1e-9


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_faces_that_lie_on_their_side(detector: FaceDetector, portrait: np.ndarray, quarters: int) -> None:
    for picture in (portrait, on_noise(portrait, (600, 500), (200, 150), 200)):
        (face,) = detector.find(np.ascontiguousarray(np.rot90(picture, -quarters)))
        assert abs((roll(face) - 90 * quarters + 180) % 360 - 180) < 8


def test_a_small_face_is_found_in_a_part(detector: FaceDetector, portrait: np.ndarray) -> None:
    (face,) = detector.find(on_noise(portrait, (1200, 800), (900, 500), 48))
    assert 24 < face.side < 42 and np.hypot(*(face.centre - (925, 528))) < 6


def test_several_faces_come_by_size(detector: FaceDetector, portrait: np.ndarray) -> None:
    picture = on_noise(portrait, (700, 500), (20, 20), 160)
    picture = np.where(np.arange(700)[:, None] < 350, picture, on_noise(portrait, (700, 500), (400, 200), 240))
    faces = detector.find(picture)
    assert len(faces) == 2 and faces[0].side > 1.2 * faces[1].side
    assert faces[0].centre[0] > 400 > 200 > faces[1].centre[0]


def test_what_is_cut_off_is_estimated(detector: FaceDetector, portrait: np.ndarray) -> None:
    (whole,) = detector.find(portrait)
    edge = round(whole.centre[0] + 0.2 * whole.side)  # 0.3 of the box are beyond
    (face,) = detector.find(np.ascontiguousarray(portrait[:, :edge]))
    assert 0.15 < share_outside(face, (edge, 256)) < 0.45


def test_no_face(detector: FaceDetector) -> None:
    y, x = np.mgrid[:200, :300]
    assert detector.find(np.stack([x * 255 // 299, y * 255 // 199, 128 + 0 * x], axis=-1).astype(np.uint8)) == []
    assert detector.find(np.zeros((1, 1, 3), np.uint8)) == []
    assert detector.find(np.zeros((2, 3000, 3), np.uint8)) == []


def test_a_damaged_model(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no network")
    with pytest.raises(ModelError, match=r"the face detector cannot be loaded: .*install edgegrain again"):
        FaceDetector(tmp_path / "model.onnx")
