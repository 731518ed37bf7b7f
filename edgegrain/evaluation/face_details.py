"""Eyes and mouth of aligned faces: fixed boxes, because FFHQ's alignment puts them at the same places."""

from __future__ import annotations

from codec_contract.rgb import Rgb
from edgegrain.pictures.sheets import Tile

SIDE = 0.25
"""Side of a box, as a fraction of the frame's: 64 pixels of 256, drawn four times as large."""
CENTRES = {"left eye": (0.377, 0.469), "right eye": (0.623, 0.469), "mouth": (0.502, 0.725)}
"""Name -> mean position (x, y) in FFHQ frames, as fractions of the side (facexlib's mean points)."""


def details(picture: Rgb) -> dict[str, Rgb]:
    """Name -> uint8 ``[S, S, 3]``, the boxes of a square aligned frame."""
    side = picture.shape[0]
    size, crops = round(SIDE * side), {}
    for name, (x, y) in CENTRES.items():
        left, top = round(x * side - size / 2), round(y * side - size / 2)
        crops[name] = picture[top : top + size, left : left + size]
    return crops


def detail_titles() -> list[str]:
    """Titles of the columns of `detail_tiles`."""
    return [f"{name}, {which}" for name in CENTRES for which in ("original", "restored")]


def detail_tiles(original: Rgb, restored: Rgb, name: str) -> list[Tile]:
    """A row of a sheet: each box of the original and of the restored picture; ``name`` is the picture's."""
    ours = details(restored)
    return [tile for box, crop in details(original).items()
            for tile in (Tile(crop, name), Tile(ours[box], accent=True))]
