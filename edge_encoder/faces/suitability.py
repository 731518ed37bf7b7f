"""Suitability of a face for encoding: its size, its angles, and how much of it is outside of the picture.

The limits come from the pictures that the default bundle was trained on, aligned as in FFHQ, and from the share of
restored faces that an identity network still recognizes (docs/align.md).
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from edge_encoder.faces.detection import DetectedFace

FaceProblem = Literal["none", "several", "too-small", "turned-away", "tilted", "cut-off"]
"""Reasons for which a picture's face is not restored well."""

LEAST_PIXELS = 32.0
"""Side of a face's box in the picture, in pixels."""
LEAST_SHARE = 0.45
"""Side of a face's box, in sides of the encoded square; at least 0.50 in the training pictures."""
LARGEST_YAW = 45.0
"""Degrees; 99 % of the training pictures are turned less."""
LARGEST_ROLL = 20.0
"""Degrees; 99 % of the training pictures are tilted by less than 8."""
LARGEST_CUT = 0.1
"""Share of a face's box outside of the picture."""
COMPANION = 0.5
"""Side of a second face that counts, in sides of the largest."""

# Distance of the nose's tip from the plane of the eyes, in distances of the eyes: fitted to Face Mesh's 468 points in
# 589 training pictures; 2 degrees off on average, 6 at most in 95 % of them.
_NOSE_DEPTH = 1 / 1.35


def roll(face: DetectedFace) -> float:
    """Rotation in the picture, clockwise, in degrees from -180 to 180."""
    return float(np.degrees(np.arctan2(face.across[1], face.across[0])))


def yaw(face: DetectedFace) -> float:
    """Rotation to the side, in degrees from -90 to 90; positive towards the picture's right."""
    eyes = float(np.hypot(*face.across))
    offset = float((face.points[2] - face.points[:2].mean(axis=0)) @ face.across) / eyes
    return float(np.degrees(np.arctan2(offset, _NOSE_DEPTH * eyes)))


def share_outside(face: DetectedFace, size: tuple[int, int]) -> float:
    """Share of the face's box outside of a picture of (width, height)."""
    seen = np.minimum(face.centre + face.side / 2, size) - np.maximum(face.centre - face.side / 2, 0)
    return 1 - float(np.prod(np.maximum(seen, 0))) / face.side**2
