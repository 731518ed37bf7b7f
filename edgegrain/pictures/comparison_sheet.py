"""Pictures side by side, each with a title and a line below it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

COLUMNS = 3
TILE = 384
"""Longest side of a picture on the sheet, in pixels."""
MARGIN = 20
TITLE_SIZE, LINE_SIZE = 22, 15
PAPER, INK, FAINT = (255, 255, 255), (20, 20, 20), (110, 110, 110)


@dataclass(frozen=True)
class Tile:
    """One picture, None where there is none, its title and the line below."""

    picture: Image.Image | None
    title: str
    line: str


def draw_sheet(tiles: Sequence[Tile]) -> Image.Image:
    """An RGB picture with the tiles in rows of three, read from left to right."""
    pictures = [None if tile.picture is None else _scaled(tile.picture) for tile in tiles]
    height = max((picture.height for picture in pictures if picture is not None), default=TILE)
    caption = TITLE_SIZE + 2 * LINE_SIZE + MARGIN
    rows = -(-len(tiles) // COLUMNS)
    sheet = Image.new(
        "RGB", (MARGIN + COLUMNS * (TILE + MARGIN), MARGIN + rows * (height + caption + MARGIN)), PAPER)
    draw = ImageDraw.Draw(sheet)
    title_font, line_font = ImageFont.load_default(TITLE_SIZE), ImageFont.load_default(LINE_SIZE)
    for index, (tile, picture) in enumerate(zip(tiles, pictures, strict=True)):
        left = MARGIN + index % COLUMNS * (TILE + MARGIN)
        top = MARGIN + index // COLUMNS * (height + caption + MARGIN)
        if picture is None:
            draw.rectangle((left, top, left + TILE - 1, top + height - 1), outline=FAINT)
        else:
            sheet.paste(picture, (left + (TILE - picture.width) // 2, top + (height - picture.height) // 2))
        below = top + height + MARGIN // 4
        draw.text((left, below), tile.title, INK, title_font)
        draw.text((left, below + TITLE_SIZE + MARGIN // 4), _shortened(tile.line, draw, line_font), FAINT, line_font)
    return sheet


def _scaled(picture: Image.Image) -> Image.Image:
    scale = TILE / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.convert("RGB").resize(size, Image.Resampling.BICUBIC)


def _shortened(
    text: str, draw: ImageDraw.ImageDraw, font: ImageFont.ImageFont | ImageFont.FreeTypeFont
) -> str:
    """The text, cut to the width of a tile."""
    if draw.textlength(text, font) <= TILE:
        return text
    while text and draw.textlength(text + "...", font) > TILE:
        text = text[:-1]
    return text + "..."
