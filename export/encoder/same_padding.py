"""TensorFlow's padding ``SAME``."""

from __future__ import annotations

from collections.abc import Sequence


def same_padding(size: Sequence[int], kernel: Sequence[int], strides: Sequence[int]) -> tuple[int, int, int, int]:
    """Zeros at (top, left, bottom, right): as many as the strides need, the odd one at bottom and right."""
    down, across = (max((-(-side // stride) - 1) * stride + width - side, 0)
                    for side, stride, width in zip(size, strides, kernel, strict=True))
    return down // 2, across // 2, down - down // 2, across - across // 2
