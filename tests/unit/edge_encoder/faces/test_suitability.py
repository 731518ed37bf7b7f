"""Angles and limits of faces, which the web page has too."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from edge_encoder.faces.suitability import roll, share_outside, yaw

from edge_encoder.faces import detection, suitability
from edge_encoder.faces.detection import DetectedFace


def face(degrees: float = 0, turned: float = 0, centre: tuple[float, float] = (100, 80)) -> DetectedFace:
    """Eyes 40 pixels apart; the nose is ``turned`` pixels from their middle."""
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    points = np.array([[-20, -10], [20, -10], [turned, 10], [0, 30], [-40, 0], [40, 0]]) @ turn + centre
    return DetectedFace(np.array(centre, float), 100, points, 0.9)


@pytest.mark.parametrize("degrees", [0, 35, 90, -120])
def test_angles(degrees: float) -> None:
    assert roll(face(degrees)) == pytest.approx(degrees) and yaw(face(degrees)) == pytest.approx(0, abs=1e-9)
    assert yaw(face(degrees, turned=40 / 1.35)) == pytest.approx(45)
    assert yaw(face(degrees, turned=-40 / 1.35 / 3**0.5)) == pytest.approx(-30)


def test_share_outside() -> None:
    assert share_outside(face(), (200, 200)) == 0
    assert share_outside(face(centre=(40, 80)), (200, 200)) == pytest.approx(0.1)
    assert share_outside(face(centre=(40, 170)), (200, 200)) == pytest.approx(1 - 0.9 * 0.8)
    assert share_outside(face(centre=(-60, 80)), (200, 200)) == 1


def test_the_web_page_has_the_same_limits(repository: Path) -> None:
    sources = repository / "clients" / "web" / "src"
    constants: dict[str, float] = {}
    for name in ("face_check.ts", "face_detector.ts"):
        for key, value, divisor in re.findall(r"^(?:export )?const (\w+) = ([\d.]+)(?: / ([\d.]+))?;$",
                                              (sources / name).read_text("utf-8"), re.MULTILINE):
            constants[key] = float(value) / float(divisor or 1)
    for key in ("LEAST_PIXELS", "LEAST_SHARE", "LARGEST_YAW", "LARGEST_ROLL", "LARGEST_CUT", "COMPANION"):
        assert constants[key] == getattr(suitability, key), key
    assert constants["NOSE_DEPTH"] == suitability._NOSE_DEPTH
    assert constants["LEAST_SCORE"] == detection.LEAST_SCORE
    assert constants["CONFIRMED_SCORE"] == detection.CONFIRMED_SCORE
    assert constants["SECOND_LOOK"] == detection._SECOND_LOOK
