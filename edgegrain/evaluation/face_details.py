"""Eyes and mouth of originals and restored faces, for a sheet that shows them enlarged."""

from __future__ import annotations

from codec_contract.rgb import Rgb
from edgegrain.metrics.face_regions import CENTRES, boxes
from edgegrain.pictures.sheets import Tile


def details(picture: Rgb) -> dict[str, Rgb]:
    """Name -> uint8 ``[S, S, 3]``, the boxes of a square aligned frame."""
    return {name: picture[top : top + size, left : left + size]
            for name, (left, top, size) in boxes(picture.shape[0]).items()}


def detail_titles() -> list[str]:
    """Titles of the columns of `detail_tiles`."""
    return [f"{name}, {which}" for name in CENTRES for which in ("original", "restored")]


def detail_tiles(original: Rgb, restored: Rgb, name: str) -> list[Tile]:
    """A row of a sheet: each box of the original and of the restored picture; ``name`` is the picture's."""
    ours = details(restored)
    return [tile for box, crop in details(original).items()
            for tile in (Tile(crop, name), Tile(ours[box], accent=True))]
