"""Retouching ([GLEAN] supplementary 2.2): reducing an edited picture to an LR removes the traces of the edit, and a
generative decoder restores a picture without them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from codec_contract.errors import ImageError
from codec_contract.fit import MAX_PIXELS, Fit
from codec_contract.payload import FIT_CROP
from codec_contract.pixels import Rgb
from edge_encoder.preprocessing import PictureSource, load_picture
from sdk.codec import Codec
from sdk.generated_mark import marked

THRESHOLD = 16  # smallest difference in levels at which a pixel counts as edited; JPEG alone changes less


def retouch(
    codec: Codec,
    edited: PictureSource,
    original: PictureSource | None = None,
    *,
    fit: Fit = "pad",
    feather: float | None = None,
    threshold: int = THRESHOLD,
    strength: float | None = None,
    max_pixels: int = MAX_PIXELS,
    mark: bool = True,
) -> Image.Image:
    """Turn a crude edit of a face into a realistic one by reducing and restoring it.

    Args:
        codec: codec of a bundle with a generative decoder, for instance GLEAN's.
        edited: the edited picture.
        original: the picture before the edit, whose unedited parts are kept; None to restore the whole picture.
        fit: as for `compress`. With ``"crop"`` the original stays outside its centre square.
        feather: pixels over which the restored region fades into the original; None for a 64th of the longest side.
        threshold: smallest difference in levels, 1 to 255, at which a pixel counts as edited.
        max_pixels: largest picture that is read or made.
        strength, mark: as for `restore`.

    Returns:
        An RGB picture of the edited one's size; of its centre square with ``"crop"`` and without an original.

    Raises:
        ImageError: a picture cannot be read, the two are of different sizes, or an option is unknown or out of range.
        BundleError: the bundle is damaged.
    """
    if not 1 <= threshold <= 255 or (feather is not None and not 0 <= feather <= 1000):
        raise ImageError(f"the threshold is 1 to 255 levels, feather 0 to 1000 pixels, got {threshold} and {feather}")
    after = load_picture(edited, max_pixels=max_pixels)
    if after.shape[:2] == (codec.bundle.lr, codec.bundle.lr):
        raise ImageError("the edited picture has the size of an LR; restore gives the picture of an edited LR")
    before = after if original is None else load_picture(original, max_pixels=max_pixels)
    if before.shape != after.shape:
        one, other = (f"{shape[1]} x {shape[0]}" for shape in (before.shape, after.shape))
        advice = "edit it without changing its size"
        raise ImageError(f"the original has {one} pixels, the edited picture {other}; {advice}")
    restored = np.asarray(codec.restore(codec.compress(after, fit), strength=strength, max_pixels=max_pixels))
    if original is not None:
        if fit == FIT_CROP:
            side = len(restored)
            top, left = (before.shape[0] - side) // 2, (before.shape[1] - side) // 2
            square, restored = restored, before.copy()
            restored[top : top + side, left : left + side] = square
        feather = max(before.shape[:2]) / 64 if feather is None else feather
        restored = blend(before, restored, changed(before, after, threshold), feather)
    return marked(Image.fromarray(restored), codec.bundle, mark)


def changed(before: Rgb, after: Rgb, threshold: int) -> npt.NDArray[np.uint8]:
    """uint8 ``[H, W]``: 255 where a channel of two uint8 ``[H, W, 3]`` differs by ``threshold`` levels or more."""
    return np.where(np.abs(before.astype(np.int16) - after).max(2) >= threshold, 255, 0).astype(np.uint8)


def blend(before: Rgb, restored: Rgb, mask: npt.NDArray[np.uint8], feather: float) -> Rgb:
    """The restored picture where the mask, uint8 ``[H, W]``, is 255, fading into ``before`` around it."""
    soft = np.asarray(Image.fromarray(mask).filter(ImageFilter.GaussianBlur(feather))).astype(np.float32)
    # Twice the blurred mask: at the edge of a large region, where it is one half, the weight is 1.
    weight = np.maximum(mask, (2 * soft).clip(0, 255))[..., None] / 255
    return np.round(before + weight * (restored.astype(np.float32) - before)).astype(np.uint8)
