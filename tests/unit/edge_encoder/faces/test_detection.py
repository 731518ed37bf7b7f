"""The points of the face in the portrait that ships with the package; angles and limits of faces."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codec_contract.errors import ModelError
from edge_encoder.faces import detection
from edge_encoder.faces.detection import DetectedFace, FaceDetector, Photograph, open_network


def test_the_points_of_a_face(portrait: np.ndarray) -> None:
    (face,) = next(FaceDetector().searches(Photograph(portrait)))
    left_eye, right_eye, nose, mouth, left_ear, right_ear = face.points
    assert np.hypot(*(left_eye - (91, 116))) < 10 and np.hypot(*(right_eye - (169, 117))) < 10
    assert left_ear[0] < left_eye[0] < nose[0] < right_eye[0] < right_ear[0]
    assert left_eye[1] < nose[1] < mouth[1] < face.centre[1] + face.side / 2
    assert 130 < face.side < 220 and 0.7 < face.score <= 1
    assert abs(face.roll) < 5 and abs(face.yaw) < 15 and face.share_outside((256, 256)) < 1e-9


def test_a_damaged_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "face_detector.onnx").write_bytes(b"no network")
    monkeypatch.setattr(detection, "__file__", str(tmp_path / "detection.py"))
    with pytest.raises(ModelError, match=r"face_detector.onnx cannot be loaded: .*install edgegrain again"):
        open_network("face_detector.onnx")


def face(degrees: float = 0, turned: float = 0, centre: Any = (100, 80), side: float = 100) -> DetectedFace:
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
    turned = face(turned=40 / 1.35 * 3**0.5).problems((200, 200))["turned-away"]
    assert "turned away by 60 degrees, expected at most 45" in turned
    assert list(face(centre=(0, 80)).problems((200, 200))) == ["cut-off"]
