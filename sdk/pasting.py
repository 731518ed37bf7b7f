"""`paste`: put a restored face back where it was cut out."""

from __future__ import annotations

import numbers

import numpy as np
import numpy.typing as npt
from PIL import Image

from codec_contract.errors import ImageError, PayloadError
from codec_contract.fit import MAX_PIXELS
from edge_encoder.preprocessing import PictureSource, load_picture
from sdk.generated_mark import GeneratedMark, MarkedPicture
from sdk.inputs import PayloadSource, read_payload

FEATHER = 0.1
"""Width of the border in which the face fades into the background, as a fraction of the square's side."""

_BAND_PIXELS = 1 << 20


def paste(
    face: PictureSource,
    payload: PayloadSource,
    background: PictureSource,
    *,
    feather: float = FEATHER,
    max_pixels: int = MAX_PIXELS,
    mark: bool = True,
) -> Image.Image:
    """Put the restored square of an aligned (or cropped) picture back into a picture of the whole.

    Args:
        face: the result of `restore` for the payload, of any side; ``size="native"``, or one of
            `BundleInfo.sides`, avoids resampling twice.
        payload: a `Payload`, its bytes or the path of its file; its header says where the square lies.
        background: the whole picture, for instance as a small JPEG: of the original's size, or of its aspect.
        feather: width of the border in which the face fades in, 0 to 0.5 of the square's side.
        max_pixels: largest picture that is read.
        mark: as for `restore`; the mark of a face that `restore` returned is taken over.

    Returns:
        An RGB picture of the background's size, equal to the background outside of the square.

    Raises:
        PayloadError: the payload is damaged, or of a picture that was not cut.
        ImageError: a picture cannot be read, the face is not square, or the background has another aspect.
    """
    header = read_payload(payload).header
    square = header.cut
    if square is None:
        raise PayloadError(f"the payload holds the whole picture (fit {header.fit!r}), so there is nothing to paste it "
                           "into; only aligned faces and pictures compressed with fit='crop' are parts of others")
    if not isinstance(feather, numbers.Real) or not 0 <= feather <= 0.5:
        raise ImageError(f"feather is a fraction of the square's side, 0 to 0.5, got {feather!r}")
    inner, outer = (load_picture(picture, max_pixels=max_pixels) for picture in (face, background))
    if inner.shape[0] != inner.shape[1]:
        raise ImageError(f"a restored face is square, got {inner.shape[1]} x {inner.shape[0]} pixels")
    width, height = outer.shape[1], outer.shape[0]
    original = header.original_size
    if abs(width * original[1] - height * original[0]) > max(original):  # a pixel's rounding of the shorter side
        raise ImageError(f"the background has {width} x {height} pixels, the original had {original[0]} x "
                         f"{original[1]}; give one of that size or aspect")
    picture = Image.fromarray(outer)
    blend_face(picture, Image.fromarray(inner), square.corners() * (width / original[0], height / original[1]), feather)
    if not mark:
        return picture
    return MarkedPicture(picture, face.info.get("xmp") if isinstance(face, MarkedPicture) else GeneratedMark().xmp())


def blend_face(picture: Image.Image, face: Image.Image, corners: npt.NDArray[np.float64], feather: float) -> None:
    """Draw a face into the quadrangle with these corners, ``[4, 2]`` in pixels, in place; arguments as `paste`."""
    upper_left, lower_left, _, upper_right = corners
    low = np.maximum(np.floor(corners.min(axis=0)), 0).astype(int)
    high = np.minimum(np.ceil(corners.max(axis=0)), picture.size).astype(int)
    width, height = (int(length) for length in high - low)
    if min(width, height) < 1:  # a square of less than a pixel, at the edge
        return
    # Position in the square, 0 to 1, of the window's point (x, y): matrix @ (x, y) + offset.
    matrix = np.linalg.inv(np.stack([upper_right - upper_left, lower_left - upper_left], axis=1))
    offset = matrix @ (low - upper_left)

    side = max(1, round(float(np.hypot(*(upper_right - upper_left)))))
    if side < face.width:  # averaged first: the transform reads only the nearest pixels
        face = face.resize((side, side), Image.Resampling.LANCZOS)
    rows = np.column_stack([matrix, offset])
    x = np.arange(width, dtype=np.float32) + np.float32(0.5)
    for first in range(0, height, max(1, _BAND_PIXELS // width)):  # large windows take little memory so
        band = min(height - first, max(1, _BAND_PIXELS // width))
        shifted = rows + [[0, 0, first * row[1]] for row in rows]
        window = face.transform((width, band), Image.Transform.AFFINE, tuple((shifted * face.width).ravel()),
                                Image.Resampling.BICUBIC)
        y = np.arange(band, dtype=np.float32)[:, None] + np.float32(0.5)
        across, down = (horizontal * x + vertical * y + shift for horizontal, vertical, shift in shifted.tolist())
        inset = np.minimum(np.minimum(across, 1 - across), np.minimum(down, 1 - down))
        ramp = np.clip(inset / feather, 0, 1) if feather else (inset >= 0).astype(np.float32)
        mask = Image.fromarray(np.rint(255 * ramp * ramp * (3 - 2 * ramp)).astype(np.uint8))  # smooth at both ends
        picture.paste(window, (int(low[0]), int(low[1]) + first), mask)
