"""Parts of pictures. Training computes fine scales, which are local, on windows only."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Window(NamedTuple):
    """A square of a picture, in its pixels."""

    top: int
    left: int
    size: int

    def doubled(self) -> Window:
        """This window of a picture of twice the side."""
        return Window(*(2 * length for length in self))


class Area(NamedTuple):
    """A rectangle of feature maps, in their pixels; ``bottom`` and ``right`` are the first ones outside."""

    top: int
    left: int
    bottom: int
    right: int

    @classmethod
    def of(cls, window: Window) -> Area:
        """The area of a window in maps of the picture's resolution."""
        return cls(window.top, window.left, window.top + window.size, window.left + window.size)

    def grown(self, margin: int, side: int) -> Area:
        """With a margin, as far as maps of ``side`` x ``side`` reach."""
        return Area(max(0, self.top - margin), max(0, self.left - margin),
                    min(side, self.bottom + margin), min(side, self.right + margin))

    def halved(self) -> Area:
        """The smallest area that covers this one in maps of half the side."""
        return Area(self.top // 2, self.left // 2, -(-self.bottom // 2), -(-self.right // 2))

    def doubled(self) -> Area:
        """This area in maps of twice the side."""
        return Area(*(2 * edge for edge in self))

    def of_maps(self, maps: Tensor, covers: Area | None = None) -> Tensor:
        """This part of maps ``[..., h, w]``, which begin at (0, 0) or are the part ``covers``."""
        top, left = (0, 0) if covers is None else covers[:2]
        return maps[..., self.top - top : self.bottom - top, self.left - left : self.right - left]
