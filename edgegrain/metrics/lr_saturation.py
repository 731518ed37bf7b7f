"""Saturation of an LR against that of the plain area mean: an LR should look like the picture, not like a faded one."""

from __future__ import annotations

import numpy as np
from PIL import Image

from codec_contract.rgb import Rgb


def mean_saturation(picture: Rgb) -> float:
    """Mean saturation of HSV, 0...1, of a uint8 picture ``[H, W, 3]``; black has 0."""
    levels = picture.astype(np.float64)
    largest = levels.max(-1)
    return float(((largest - levels.min(-1)) / np.maximum(largest, 1)).mean())


def lr_saturation(lr: Rgb, original: Rgb) -> tuple[float, float]:
    """Mean saturation of an LR, and of its original reduced to the same size by the area mean."""
    height, width = lr.shape[:2]
    mean = Image.fromarray(original).resize((width, height), Image.Resampling.BOX)
    return mean_saturation(lr), mean_saturation(np.asarray(mean))
