"""Draw sheets: pictures in a grid, with a heading, column titles and captions.

    tiles = [Tile(original, "original", "120,000 bytes"), Tile(restored, "restored", "560 bytes")]
    write_sheet(draw_sheet([tiles]), Path("sheet.png"))

Needs numpy and Pillow only; the sheets of a generator, at the end, also torch.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from codec_contract.errors import ImageError
from codec_contract.files import write_atomically
from codec_contract.pixels import Rgb, pictures_of

if TYPE_CHECKING:
    from torch import Tensor

    from server_decoder.generative_prior import GenerativePrior

MARGIN, GAP = 16, 8  # pixels around the sheet, and between tiles
PIXELS_SHOW = 3  # factor from which on pictures are enlarged pixel by pixel, as an LR should be
PAPER, INK, FAINT, ACCENT = (255, 255, 255), (25, 25, 25), (110, 110, 110), (178, 34, 52)
_TITLE_SIZES, _HEADING_SIZE = (11, 22), 18

_Font = ImageFont.ImageFont | ImageFont.FreeTypeFont


@dataclass(frozen=True, eq=False)
class Tile:
    """A picture, uint8 ``[H, W, 3]`` or None for an empty frame, and up to two lines of caption, cut to its width."""

    picture: Rgb | None
    title: str = ""
    line: str = ""
    accent: bool = False


def draw_sheet(
    rows: Sequence[Sequence[Tile]], *, titles: Sequence[str] = (), heading: str = "", side: int = 0
) -> Image.Image:
    """Draw rows of tiles as an RGB picture, with a title for each column and a heading.

    ``side`` is the longest side of a picture on the sheet; 0: that of the largest. Smaller pictures are enlarged, pixel
    by pixel if the factor is whole or at least `PIXELS_SHOW`; larger ones are reduced.
    """
    tiles = [tile for row in rows for tile in row]
    side = side or max((max(tile.picture.shape[:2]) for tile in tiles if tile.picture is not None), default=256)
    pictures = [[None if tile.picture is None else _fitted(tile.picture, side) for tile in row] for row in rows]
    height = max((picture.height for row in pictures for picture in row if picture is not None), default=side)
    title_size = min(max(side // 16, _TITLE_SIZES[0]), _TITLE_SIZES[1])
    line_size = title_size * 13 // 16
    title_font, line_font = ImageFont.load_default(title_size), ImageFont.load_default(line_size)
    lines = [title_size] * any(tile.title for tile in tiles) + [line_size] * any(tile.line for tile in tiles)
    caption = sum(size + GAP // 2 for size in lines) + GAP * bool(lines)
    top = MARGIN + (_HEADING_SIZE + GAP if heading else 0) + (title_size + GAP if titles else 0)
    columns = max([len(titles), *map(len, rows)], default=0)
    across, down = side + GAP, height + caption + GAP
    sheet = Image.new("RGB", (2 * MARGIN + columns * across - GAP, top + len(rows) * down - GAP + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    if heading:
        font = ImageFont.load_default(_HEADING_SIZE)
        draw.text((MARGIN, MARGIN), _shortened(heading, sheet.width - 2 * MARGIN, draw, font), INK, font)
    for column, title in enumerate(titles):
        left = MARGIN + column * across
        draw.text((left, top - GAP), _shortened(title, side, draw, title_font), FAINT, title_font, anchor="ls")
    for y, (row, drawn) in enumerate(zip(rows, pictures, strict=True)):
        for x, (tile, picture) in enumerate(zip(row, drawn, strict=True)):
            left, above = MARGIN + x * across, top + y * down
            if picture is None:
                draw.rectangle((left, above, left + side - 1, above + height - 1), outline=FAINT)
            else:
                sheet.paste(picture, (left + (side - picture.width) // 2, above + (height - picture.height) // 2))
            below = above + height + GAP // 2
            if tile.title:
                colour = ACCENT if tile.accent else INK
                draw.text((left, below), _shortened(tile.title, side, draw, title_font), colour, title_font)
            if tile.line:
                below += (title_size + GAP // 2) * (len(lines) > 1)
                draw.text((left, below), _shortened(tile.line, side, draw, line_font), FAINT, line_font)
    return sheet


def encode_sheet(sheet: Image.Image, suffix: str = ".png") -> bytes:
    """Encode a sheet as PNG or JPEG, chosen by a file suffix; equal sheets give equal bytes."""
    options = {
        ".png": {"format": "PNG", "optimize": True},
        ".jpg": {"format": "JPEG", "quality": 85, "optimize": True, "progressive": True},
    }
    if suffix.lower() not in options:
        raise ImageError(f"a sheet is written as .png or .jpg, got {suffix or 'no suffix'}")
    buffer = io.BytesIO()
    sheet.save(buffer, **options[suffix.lower()])  # type: ignore[arg-type]
    return buffer.getvalue()


def write_sheet(sheet: Image.Image, path: Path, *, force: bool = False) -> None:
    """Write a sheet as PNG or JPEG, chosen by the suffix of the path."""
    write_atomically(path, encode_sheet(sheet, path.suffix), force=force)


def _fitted(picture: Rgb, side: int) -> Image.Image:
    """The picture with its longer side scaled to ``side``."""
    image, longer = Image.fromarray(picture), max(picture.shape[:2])
    if longer == side:
        return image
    size = (max(1, round(image.width * side / longer)), max(1, round(image.height * side / longer)))
    if longer > side:
        return image.resize(size, Image.Resampling.LANCZOS)
    pixel_by_pixel = side % longer == 0 or side >= PIXELS_SHOW * longer
    return image.resize(size, Image.Resampling.NEAREST if pixel_by_pixel else Image.Resampling.BICUBIC)


def _shortened(text: str, width: int, draw: ImageDraw.ImageDraw, font: _Font) -> str:
    """The text, cut to a width in pixels."""
    if draw.textlength(text, font) <= width:
        return text
    while text and draw.textlength(text + "...", font) > width:
        text = text[:-1]
    return text + "..." if text else ""


def sample_sheet(
    prior: GenerativePrior, count: int, seed: int, psi: float, report: Callable[[float], None]
) -> Image.Image:
    """Draw ``count`` samples in reading order, in a nearly square grid; ``report`` gets the finished part, 0...1."""
    import torch

    tiles, columns = [], math.ceil(math.sqrt(count))
    for index, code in enumerate(truncated_codes(prior, count, seed, psi)):
        with torch.no_grad():
            picture = prior(code[None]).picture.float()
        tiles.append(Tile(pictures_of(picture.cpu().numpy())[0]))
        report((index + 1) / count)
    return draw_sheet([tiles[first : first + columns] for first in range(0, count, columns)])


def truncated_codes(prior: GenerativePrior, count: int, seed: int, psi: float) -> Tensor:
    """Random codes ``[count, L, C]``, equal in every layer; picture n does not depend on the count."""
    import torch

    z = np.random.default_rng(seed).standard_normal((count, prior.code_width), dtype=np.float32)
    with torch.no_grad():
        return prior.truncate(prior.broadcast(prior.map(torch.from_numpy(z).to(prior.mean_code))), psi)
