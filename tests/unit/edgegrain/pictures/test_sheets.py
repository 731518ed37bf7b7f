"""Sheets: every tile lies where the grid says, pictures of any size fit, captions stay inside their tile."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from codec_contract.errors import ImageError
from edgegrain.pictures.sheets import ACCENT, GAP, MARGIN, Tile, draw_sheet, write_sheet

SIDE = 96


def plain(colour: tuple[int, int, int], height: int = 10, width: int = 10) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


def test_tiles_lie_in_reading_order() -> None:
    colours = [(200, 0, 0), (0, 200, 0), (0, 0, 200), (90, 90, 0)]
    tiles = [Tile(plain(colour), "title", "a line " * 40) for colour in colours]
    sheet = draw_sheet([tiles[:3], tiles[3:]], side=SIDE)
    pixels = np.asarray(sheet)
    assert sheet.width == 2 * MARGIN + 3 * SIDE + 2 * GAP
    row_height = (sheet.height - 2 * MARGIN + GAP) // 2
    for index, colour in enumerate(colours):
        x = MARGIN + index % 3 * (SIDE + GAP) + SIDE // 2
        y = MARGIN + index // 3 * row_height + SIDE // 2
        assert tuple(pixels[y, x]) == colour
    below = pixels[MARGIN + SIDE : MARGIN + row_height - GAP]
    assert (below < 128).any()  # there is text
    for gap in (MARGIN + SIDE, MARGIN + 2 * SIDE + GAP):  # which does not reach the next tile
        assert (below[:, gap + 2 : gap + GAP - 1] == 255).all()


def test_small_pictures_are_enlarged_pixel_by_pixel() -> None:
    small = np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)
    sheet = np.asarray(draw_sheet([[Tile(small), Tile(plain((0, 0, 0), 32, 32))]]))
    shown = sheet[MARGIN : MARGIN + 32, MARGIN : MARGIN + 32]
    np.testing.assert_array_equal(shown, small.repeat(8, 0).repeat(8, 1))


def test_pictures_of_any_size_and_shape_fit() -> None:
    tiles = [Tile(plain((90, 90, 90), *size), "1 byte") for size in ((64, 64), (1024, 1024), (100, 300), (300, 100))]
    sheet = np.asarray(draw_sheet([tiles], titles=["a", "b", "c", "d"], heading="heading", side=SIDE))
    assert (sheet == 90).all(2).sum() == 2 * SIDE**2 + 2 * SIDE * SIDE // 3


def test_titles_and_heading_lie_above_and_accents_are_coloured() -> None:
    tile = Tile(plain((0, 0, 0), 64, 64), "ours", accent=True)
    sheets = draw_sheet([[tile]]), draw_sheet([[tile]], titles=["title"], heading="heading")
    bare, full = map(np.asarray, sheets)
    assert full.shape[0] > bare.shape[0] and full.shape[1] == bare.shape[1]
    np.testing.assert_array_equal(full[-(bare.shape[0] - MARGIN) :], bare[MARGIN:])
    assert (full[: full.shape[0] - bare.shape[0]] < 200).any()
    assert (bare == ACCENT).all(2).any()


def test_a_missing_picture_is_an_empty_frame() -> None:
    sheet = draw_sheet([[Tile(None, "AVIF", "does not fit in 30 bytes")]], side=SIDE)
    assert sheet.getpixel((MARGIN, MARGIN)) != (255, 255, 255)
    assert sheet.getpixel((MARGIN + SIDE // 2, MARGIN + SIDE // 2)) == (255, 255, 255)
    assert draw_sheet([]).size[1] > 0


def test_writing(tmp_path: Path) -> None:
    sheet = draw_sheet([[Tile(plain((90, 0, 0)))]])
    for name, kind in (("a.png", "PNG"), ("a.JPG", "JPEG")):
        write_sheet(sheet, tmp_path / name)
        with Image.open(tmp_path / name) as image:
            assert image.format == kind
    with pytest.raises(FileExistsError):
        write_sheet(sheet, tmp_path / "a.png")
    write_sheet(sheet, tmp_path / "a.png", force=True)
    with pytest.raises(ImageError, match=".png or .jpg, got .gif"):
        write_sheet(sheet, tmp_path / "a.gif")
