"""Context model of the LR's lossless coder: which probability each bit of each level gets.

First form: fixed linear prediction, one logistic distribution per channel and activity class.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgegrain.contract.errors import BundleError
from edgegrain.contract.range_coder import RangeDecoder, RangeEncoder


@dataclass(frozen=True)
class CoderTables:
    """Everything trained about the coder; integers only."""

    scales: tuple[int, ...] = (2, 3, 5, 8, 12, 18, 26)

    @classmethod
    def default(cls) -> CoderTables:
        return cls()

    def to_json(self) -> bytes:
        return json.dumps({"scales": list(self.scales)}, separators=(",", ":")).encode("ascii")

    @classmethod
    def from_json(cls, data: bytes | str) -> CoderTables:
        try:
            return cls(tuple(int(v) for v in json.loads(data)["scales"]))
        except (ValueError, KeyError, TypeError) as error:
            raise BundleError(f"coder tables are not readable: {error}") from error

    def digest(self) -> bytes:
        return hashlib.sha256(self.to_json()).digest()


def _squash(scale: int) -> list[int]:
    grid = np.arange(-512, 513)
    return [int(65535 * v) for v in 1 / (1 + np.exp(-np.clip(grid / scale, -30, 30)))]


def _walk(coder: RangeEncoder | RangeDecoder, planes: list[list[list[int]]], tables: CoderTables) -> None:
    cumulative = [[c + 2 * k for k, c in enumerate(_squash(s))] for s in tables.scales]
    height, width = len(planes[0]), len(planes[0][0])
    for y in range(height):
        for x in range(width):
            for c in range(3):
                plane = planes[c]
                west = plane[y][x - 1] if x else (plane[y - 1][x] if y else 128)
                north = plane[y - 1][x] if y else west
                corner = plane[y - 1][x - 1] if x and y else north
                mean = (3 * west + 3 * north - 2 * corner) // 4
                activity = abs(west - corner) + abs(north - corner)
                if c:
                    other = planes[c - 1]
                    there = other[y][x]
                    side = other[y][x - 1] if x else (other[y - 1][x] if y else 128)
                    above = other[y - 1][x] if y else side
                    mean += ((2 * there - side - above) * 7) // 16
                mean = min(max(mean, 0), 255)
                table = cumulative[min(activity.bit_length(), len(cumulative) - 1)]
                low, high = 0, 256
                value = plane[y][x]
                while high - low > 1:
                    middle = (low + high) >> 1
                    total = table[512 + high - mean] - table[512 + low - mean]
                    upper = table[512 + high - mean] - table[512 + middle - mean]
                    probability = min(max((upper << 16) // total, 32), 65504)
                    if isinstance(coder, RangeEncoder):
                        bit = int(value >= middle)
                        coder.encode(bit, probability)
                    else:
                        bit = coder.decode(probability)
                    low, high = (middle, high) if bit else (low, middle)
                plane[y][x] = low


def encode_lr(lr: npt.NDArray[np.uint8], tables: CoderTables) -> bytes:
    """Code an LR, uint8 [h, w, 3], losslessly."""
    encoder = RangeEncoder()
    _walk(encoder, [lr[:, :, c].tolist() for c in range(3)], tables)
    return encoder.finish()


def decode_lr(body: bytes, width: int, height: int, tables: CoderTables) -> npt.NDArray[np.uint8]:
    """The LR, uint8 [height, width, 3], that ``encode_lr`` turned into ``body``."""
    planes = [[[0] * width for _ in range(height)] for _ in range(3)]
    decoder = RangeDecoder(body)
    _walk(decoder, planes, tables)
    decoder.finish()
    return np.ascontiguousarray(np.array(planes, dtype=np.uint8).transpose(1, 2, 0))
