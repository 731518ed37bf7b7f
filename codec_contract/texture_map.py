"""`TextureMap`: the texture of each cell of an enlarged picture, and its encoding (docs/payload.md, "Textures")."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from codec_contract.errors import PayloadError

TEXTURE_BITS = 3
"""Bits of a texture's number, 0 to 7; `server_decoder.super_resolution.textures` lists them."""
FACTORS = (2, 4)
"""Enlargements that a map can be for; the index is the code on the wire."""
MAP_SIDES = (1, 2, 4, 8)
"""Sides of maps, in cells; the index is the code on the wire."""


@dataclass(frozen=True)
class TextureMap:
    """The textures of the square that an enlarger makes of a restored picture; squares of other sizes stay as they are.

    Attributes:
        factor: by which the square is enlarged, one of `FACTORS`.
        textures: a number of 0 to 7 for each cell, row by row from the upper left; as many as a square of a side of
            `MAP_SIDES` has.
    """

    factor: int
    textures: tuple[int, ...]

    @property
    def side(self) -> int:
        """Cells along a side."""
        return math.isqrt(len(self.textures))

    def check(self) -> None:
        """Raise `PayloadError` if the factor, the number of cells or a texture is outside the range of the format."""
        if self.factor not in FACTORS:
            raise PayloadError(f"a texture map is for an enlargement of {', '.join(map(str, FACTORS))}, got "
                               f"{self.factor}")
        if self.side not in MAP_SIDES or self.side**2 != len(self.textures):
            raise PayloadError(f"a texture map has a side of {', '.join(map(str, MAP_SIDES))} cells, got "
                               f"{len(self.textures)} cells")
        if wrong := [number for number in self.textures if not 0 <= number < 1 << TEXTURE_BITS]:
            raise PayloadError(f"a texture has a number from 0 to {(1 << TEXTURE_BITS) - 1}, got {wrong[0]}")


def texture_map_bytes(side: int) -> int:
    """Bytes that a map of ``side`` cells a side takes in a payload."""
    return 1 + (TEXTURE_BITS * side * side + 7) // 8


MAX_TEXTURE_MAP_BYTES = texture_map_bytes(MAP_SIDES[-1])


def write_texture_map(texture_map: TextureMap) -> bytes:
    """Encode a map: a byte of the codes of its factor and its side, then the textures, three bits each.

    Raises:
        PayloadError: as `TextureMap.check`.
    """
    texture_map.check()
    codes = FACTORS.index(texture_map.factor) | MAP_SIDES.index(texture_map.side) << 2
    bits = np.unpackbits(np.array(texture_map.textures, np.uint8)[:, None], axis=1)[:, -TEXTURE_BITS:]
    return bytes([codes]) + np.packbits(bits).tobytes()


def read_texture_map(data: bytes, position: int, end: int) -> tuple[TextureMap, int]:
    """Decode a map; returns it and the position after it.

    Raises:
        PayloadError: the bytes end inside it, its codes are unknown, or a bit that has no meaning is set.
    """
    codes = data[position] if position < end else 0
    if codes >> 4 or codes & 3 >= len(FACTORS):
        raise PayloadError(f"the codes {codes:08b} of a texture map are unknown; a newer edgegrain may read this")
    side = MAP_SIDES[codes >> 2]
    after = position + texture_map_bytes(side)
    if after > end:
        raise PayloadError("the payload ends inside the texture map; it was truncated before its CRC was made")
    bits = np.unpackbits(np.frombuffer(data[position + 1 : after], np.uint8))
    used = TEXTURE_BITS * side * side
    if bits[used:].any():
        raise PayloadError("bits after the last texture of a payload's map are set")
    textures = bits[:used].reshape(-1, TEXTURE_BITS) @ (1 << np.arange(TEXTURE_BITS)[::-1])
    return TextureMap(FACTORS[codes & 3], tuple(textures.tolist())), after
