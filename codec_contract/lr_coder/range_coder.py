"""A binary range coder in 32-bit integers, without carries.

Encoder and decoder keep the same interval ``[low, high]`` of 32-bit numbers. A decision with 16-bit
probability p of a yes splits it at ``low + range * p / 2**16``; leading bytes that both ends share are
shifted out. This is the arithmetic coder of Mahoney's PAQ/lpaq (public description: "Data Compression
Explained", section 3.2), with 16-bit probabilities and a shortest ending:

    The body is the shortest byte string that, continued with zero bytes, is in the final interval; of several, the
    smallest.

So a body never ends in a zero byte, and there is exactly one body per sequence of decisions. The decoder, which knows
the interval too, checks this.

A value among many is coded as the decisions of a binary search. ``masses`` holds the distribution: strictly ascending
integers, where ``masses[k]`` is the mass below place k. From a place, each step decides if the value is at least that
much further; places within the last step are not divided. Both classes have the same loop, which takes most of the time
of an LR and therefore calls no functions.
"""

from __future__ import annotations

from collections.abc import Sequence

from codec_contract.errors import PayloadError

PROBABILITY_BITS = 16
PROBABILITY_ONE = 1 << PROBABILITY_BITS
"""A probability is an integer in 1...PROBABILITY_ONE - 1."""

_TOP = 0xFFFFFFFF
_LEADING = 0x01000000
"""Two ends share their leading byte if their exclusive or is smaller than this."""


class RangeEncoder:
    """Encodes values; ``finish`` returns the body."""

    def __init__(self) -> None:
        self._low = 0
        self._high = _TOP
        self._output = bytearray()

    def code(self, masses: Sequence[int], place: int, steps: Sequence[int], value: int) -> int:
        """Append the decisions for a value and return the place at which they end.

        Args:
            masses: strictly ascending; used from ``place`` to ``place + 2 * steps[0]``.
            place: start of the search.
            steps: each is half of the previous one.
            value: a place in that range.
        """
        low, high = self._low, self._high
        below, whole = masses[place], masses[place + 2 * steps[0]]
        for step in steps:
            middle = masses[place + step]
            # Never PROBABILITY_ONE: there is mass below the middle.
            probability = ((whole - middle) << PROBABILITY_BITS) // (whole - below) or 1
            split = low + ((high - low) * probability >> PROBABILITY_BITS)
            if value >= place + step:
                place += step
                below, high = middle, split
            else:
                whole, low = middle, split + 1
            while low ^ high < _LEADING:
                self._output.append(high >> 24)
                low = (low << 8) & _TOP
                high = ((high << 8) & _TOP) | 0xFF
        self._low, self._high = low, high
        return place

    def finish(self) -> bytes:
        """The body of all decisions so far."""
        return bytes(self._output + _shortest_ending(self._low, self._high)).rstrip(b"\0")


class RangeDecoder:
    """Decodes the values of a body, in the order and with the masses of the encoder."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._low = 0
        self._high = _TOP
        self._value = int.from_bytes(body[:4].ljust(4, b"\0"), "big")
        self._position = 4  # of the next byte to read; zeros follow the body

    def code(self, masses: Sequence[int], place: int, steps: Sequence[int], value: int) -> int:
        """Return the place of the next decisions, which exists for any body; ``value`` is ignored.

        Arguments as for the encoder.
        """
        low, high, read = self._low, self._high, self._value
        below, whole = masses[place], masses[place + 2 * steps[0]]
        for step in steps:
            middle = masses[place + step]
            probability = ((whole - middle) << PROBABILITY_BITS) // (whole - below) or 1
            split = low + ((high - low) * probability >> PROBABILITY_BITS)
            if read <= split:
                place += step
                below, high = middle, split
            else:
                whole, low = middle, split + 1
            while low ^ high < _LEADING:
                low = (low << 8) & _TOP
                high = ((high << 8) & _TOP) | 0xFF
                position = self._position
                following = self._body[position] if position < len(self._body) else 0
                read = ((read << 8) & _TOP) | following
                self._position = position + 1
        self._low, self._high, self._value = low, high, read
        return place

    def finish(self) -> None:
        """Check that the encoder writes this body for the decisions that were read."""
        settled = self._position - 4  # bytes shifted out of the interval
        expected = self._body[:settled].ljust(settled, b"\0") + _shortest_ending(self._low, self._high)
        if expected.rstrip(b"\0") != self._body:
            raise PayloadError(
                f"the coded body of {len(self._body)} bytes does not end as an encoder would have ended it; "
                "it is corrupt or was written with other coder tables"
            )


def _shortest_ending(low: int, high: int) -> bytes:
    """The shortest, then smallest, byte string whose zero continuation is in ``[low, high]``."""
    for length in range(4):
        unit = 1 << (32 - 8 * length)
        value = -(-low // unit) * unit  # low rounded up to a multiple of unit
        if value <= high:
            return value.to_bytes(4, "big")[:length]
    return low.to_bytes(4, "big")
