"""Sheets to look at: original, what the bundle restores, what the best classical codec makes of as many bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from edgegrain.metrics.psnr_ssim import Picture

TILE = 256
"""Side of a picture on a sheet; smaller ones are enlarged pixel by pixel, larger ones shrunk."""
GAP, MARGIN = 12, 20
TITLE_SIZE, BYTES_SIZE, LINE_SIZE = 17, 16, 13
CAPTION = 46
PAPER, INK, FAINT, ACCENT = (255, 255, 255), (25, 25, 25), (110, 110, 110), (178, 34, 52)


@dataclass(frozen=True)
class Tile:
    """A picture, uint8 ``[H, W, 3]`` or None where there is none, its bytes and the line below them."""

    picture: Picture | None
    size: str
    line: str
    ours: bool = False


def draw_sheet(titles: Sequence[str], rows: Sequence[Sequence[Tile]], heading: str) -> Image.Image:
    """RGB: a column per title, a row of tiles per picture."""
    top = MARGIN + TITLE_SIZE + 2 * GAP + TITLE_SIZE
    width = 2 * MARGIN + len(titles) * (TILE + GAP) - GAP
    sheet = Image.new("RGB", (width, top + len(rows) * (TILE + CAPTION + GAP) + MARGIN - GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN), heading, INK, ImageFont.load_default(TITLE_SIZE))
    fonts = ImageFont.load_default(BYTES_SIZE), ImageFont.load_default(LINE_SIZE)
    for column, title in enumerate(titles):
        left = MARGIN + column * (TILE + GAP)
        draw.text((left, top - GAP // 2), title, FAINT, fonts[0], anchor="ls")
        for index, row in enumerate(rows):
            _draw_tile(sheet, draw, row[column], (left, top + index * (TILE + CAPTION + GAP)), fonts)
    return sheet


def _draw_tile(sheet: Image.Image, draw: ImageDraw.ImageDraw, tile: Tile, corner: tuple[int, int],
               fonts: Sequence[ImageFont.ImageFont | ImageFont.FreeTypeFont]) -> None:
    left, top = corner
    if tile.picture is None:
        draw.rectangle((left, top, left + TILE - 1, top + TILE - 1), outline=FAINT)
    else:
        sheet.paste(_scaled(Image.fromarray(tile.picture)), corner)
    draw.text((left, top + TILE + 5), tile.size, ACCENT if tile.ours else INK, fonts[0])
    draw.text((left, top + TILE + 26), tile.line, FAINT, fonts[1])


def _scaled(image: Image.Image) -> Image.Image:
    if image.width == TILE:
        return image
    enlarging = image.width < TILE
    return image.resize((TILE, TILE), Image.Resampling.NEAREST if enlarging else Image.Resampling.LANCZOS)
