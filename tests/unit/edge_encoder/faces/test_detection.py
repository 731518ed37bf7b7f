"""Faces in the portrait that ships with the package: shrunk, turned, doubled, cut off; angles and limits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from codec_contract.errors import ModelError
from edge_encoder.faces import detection
from edge_encoder.faces.detection import DetectedFace, FaceDetector, Photograph, open_network


class Detector:
    """The faces of the first search that finds any."""

    def __init__(self) -> None:
        self._detector = FaceDetector()

    def find(self, rgb: np.ndarray) -> list[DetectedFace]:
        return next(filter(None, self._detector.searches(Photograph(rgb))), [])


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector()


def on_noise(portrait: np.ndarray, size: tuple[int, int], corner: tuple[int, int], side: int) -> np.ndarray:
    """The portrait in a larger picture of soft patches."""
    cells = np.random.default_rng(1).integers(60, 190, (6, 8, 3), dtype=np.uint8)
    picture = Image.fromarray(cells).resize(size, Image.Resampling.BICUBIC)
    picture.paste(Image.fromarray(portrait).resize((side, side), Image.Resampling.LANCZOS), corner)
    return np.asarray(picture)


def test_the_points_of_a_face(detector: Detector, portrait: np.ndarray) -> None:
    (face,) = detector.find(portrait)
    left_eye, right_eye, nose, mouth, left_ear, right_ear = face.points
    assert np.hypot(*(left_eye - (91, 116))) < 10 and np.hypot(*(right_eye - (169, 117))) < 10
    assert left_ear[0] < left_eye[0] < nose[0] < right_eye[0] < right_ear[0]
    assert left_eye[1] < nose[1] < mouth[1] < face.centre[1] + face.side / 2
    assert 130 < face.side < 220 and 0.7 < face.score <= 1
    assert abs(face.roll) < 5 and abs(face.yaw) < 15 and face.share_outside((256, 256)) < 1e-9


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_faces_that_lie_on_their_side(detector: Detector, portrait: np.ndarray, quarters: int) -> None:
    for picture in (portrait, on_noise(portrait, (600, 500), (200, 150), 200)):
        (face,) = detector.find(np.ascontiguousarray(np.rot90(picture, -quarters)))
        assert abs((face.roll - 90 * quarters + 180) % 360 - 180) < 8


def test_a_small_face_is_found_in_a_part(detector: Detector, portrait: np.ndarray) -> None:
    (face,) = detector.find(on_noise(portrait, (1200, 800), (900, 500), 48))
    assert 24 < face.side < 42 and np.hypot(*(face.centre - (925, 528))) < 6


def test_several_faces_come_by_size(detector: Detector, portrait: np.ndarray) -> None:
    picture = on_noise(portrait, (700, 500), (20, 20), 160)
    picture = np.where(np.arange(700)[:, None] < 350, picture, on_noise(portrait, (700, 500), (400, 200), 240))
    faces = detector.find(picture)
    assert len(faces) == 2 and faces[0].side > 1.2 * faces[1].side
    assert faces[0].centre[0] > 400 > 200 > faces[1].centre[0]


def test_what_is_cut_off_is_estimated(detector: Detector, portrait: np.ndarray) -> None:
    (whole,) = detector.find(portrait)
    edge = round(whole.centre[0] + 0.2 * whole.side)  # 0.3 of the box are beyond
    (face,) = detector.find(np.ascontiguousarray(portrait[:, :edge]))
    assert 0.15 < face.share_outside((edge, 256)) < 0.45


def test_a_damaged_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "face_detector.onnx").write_bytes(b"no network")
    monkeypatch.setattr(detection, "__file__", str(tmp_path / "detection.py"))
    with pytest.raises(ModelError, match=r"face_detector.onnx cannot be loaded: .*install edgegrain again"):
        open_network("face_detector.onnx")


def face(
    degrees: float = 0, turned: float = 0, centre: tuple[float, float] = (100, 80), side: float = 100
) -> DetectedFace:
    """Eyes 40 pixels apart; the nose is ``turned`` pixels from their middle."""
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    points = np.array([[-20, -10], [20, -10], [turned, 10], [0, 30], [-40, 0], [40, 0]]) @ turn + centre
    return DetectedFace(np.array(centre, float), side, points, 0.9)


@pytest.mark.parametrize("degrees", [0, 35, 90, -120])
def test_angles(degrees: float) -> None:
    assert face(degrees).roll == pytest.approx(degrees) and face(degrees).yaw == pytest.approx(0, abs=1e-9)
    assert face(degrees, turned=40 / 1.35).yaw == pytest.approx(45)
    assert face(degrees, turned=-40 / 1.35 / 3**0.5).yaw == pytest.approx(-30)


def test_share_outside() -> None:
    assert face().share_outside((200, 200)) == 0
    assert face(centre=(40, 80)).share_outside((200, 200)) == pytest.approx(0.1)
    assert face(centre=(40, 170)).share_outside((200, 200)) == pytest.approx(1 - 0.9 * 0.8)
    assert face(centre=(-60, 80)).share_outside((200, 200)) == 1


def test_problems() -> None:
    assert face(degrees=80).problems((200, 200)) == {}
    assert "a size of 20 pixels, expected at least 32" in face(side=20).problems((200, 200))["too-small"]
    assert "turned away by 60 degrees, expected at most 45" in face(
        turned=40 / 1.35 * 3**0.5).problems((200, 200))["turned-away"]
    assert list(face(centre=(0, 80)).problems((200, 200))) == ["cut-off"]
