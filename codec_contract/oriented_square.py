"""`OrientedSquare`: a square at any angle in a picture (docs/payload.md, "Aligned pictures")."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from codec_contract.errors import PayloadError

UNITS = 4  # units of a coordinate per pixel


@dataclass(frozen=True)
class OrientedSquare:
    """A square in an upright picture, in quarters of a pixel; x runs right and y down from its upper left corner.

    Attributes:
        x: x of the centre.
        y: y of the centre.
        across_x: x of the upper edge, a vector from its left to its right end, as long as the square's side.
        across_y: y of that vector.
    """

    x: int
    y: int
    across_x: int
    across_y: int

    @property
    def side(self) -> int:
        """The side in whole pixels, rounded, at least 1."""
        return max(1, (math.isqrt(4 * (self.across_x**2 + self.across_y**2)) + UNITS) // (2 * UNITS))

    def corners(self) -> npt.NDArray[np.float64]:
        """``[4, 2]``: x and y in pixels, of the upper left, lower left, lower right and upper right corner."""
        centre, across = np.array([self.x, self.y]) / UNITS, np.array([self.across_x, self.across_y]) / UNITS
        return square_corners(centre, across / 2)

    def check(self, picture_size: tuple[int, int]) -> None:
        """Raise `PayloadError` if its centre is outside of the picture of (width, height), or its side is shorter than
        a pixel or longer than four times the picture's longest one."""
        width, height = picture_size
        if not (0 <= self.x <= UNITS * width and 0 <= self.y <= UNITS * height):
            centre = f"({self.x / UNITS}, {self.y / UNITS})"
            raise PayloadError(f"the square's centre {centre} lies outside of the picture of {width} x {height}")
        longest = 4 * max(picture_size)
        if not UNITS**2 <= self.across_x**2 + self.across_y**2 <= (UNITS * longest) ** 2:
            edge = f"({self.across_x / UNITS}, {self.across_y / UNITS})"
            raise PayloadError(f"the square's upper edge {edge} must be 1 to {longest} pixels long")


def nearest_square(centre: npt.ArrayLike, across: npt.ArrayLike, picture_size: tuple[int, int]) -> OrientedSquare:
    """Round a square, its centre and its upper edge as a vector in pixels, to the units of a payload; checked."""
    x, y, across_x, across_y = (int(np.rint(UNITS * value)) for value in (*np.asarray(centre), *np.asarray(across)))
    square = OrientedSquare(x, y, across_x, across_y)
    square.check(picture_size)
    return square


def square_corners(centre: npt.NDArray[np.float64], right: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Corners ``[4, 2]`` of the square around a centre, as of `OrientedSquare`; ``right`` is half its upper edge."""
    down = np.array([-right[1], right[0]])
    return np.stack([centre - right - down, centre - right + down, centre + right + down, centre + right - down])


def centre_square(picture_size: tuple[int, int]) -> OrientedSquare:
    """The upright square that the fit ``"crop"`` takes from a picture of (width, height)."""
    width, height = picture_size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return OrientedSquare(UNITS * left + UNITS // 2 * side, UNITS * top + UNITS // 2 * side, UNITS * side, 0)
