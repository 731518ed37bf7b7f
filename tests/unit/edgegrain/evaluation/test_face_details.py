"""The boxes hold what they are named for."""

import numpy as np

from edgegrain.evaluation.face_details import detail_tiles, detail_titles, details
from edgegrain.metrics.face_regions import CENTRES


def test_boxes_are_a_quarter_of_the_side_around_their_centres() -> None:
    rows, columns = np.mgrid[:256, :256]
    frame = np.stack([rows, columns, rows], 2).astype(np.uint8)
    for name, crop in details(frame).items():
        assert crop.shape == (64, 64, 3)
        x, y = CENTRES[name]
        assert abs(crop[..., 0].mean() - y * 256) < 2 and abs(crop[..., 1].mean() - x * 256) < 2


def test_eyes_and_mouth_of_the_portrait_are_darker_or_redder_than_its_skin(portrait: np.ndarray) -> None:
    crops = details(portrait)
    cheek = portrait[150:170, 80:100].astype(float)
    for eye in ("left eye", "right eye"):
        assert crops[eye][24:40, 16:48].min() < cheek.mean() - 40  # the pupil
    lips = crops["mouth"][24:40, 16:48].astype(float).mean((0, 1))
    assert lips[0] / lips[1] > (cheek[..., 0] / cheek[..., 1]).mean()


def test_a_row_alternates_original_and_restored() -> None:
    original, restored = np.zeros((64, 64, 3), np.uint8), np.full((64, 64, 3), 9, np.uint8)
    tiles = detail_tiles(original, restored, "a.png")
    assert len(tiles) == len(detail_titles()) == 6
    assert [int(tile.picture.max()) for tile in tiles if tile.picture is not None] == [0, 9] * 3
    assert [tile.accent for tile in tiles] == [False, True] * 3 and tiles[0].title == "a.png"
