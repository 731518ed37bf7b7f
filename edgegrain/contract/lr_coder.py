"""The lossless coder of an LR: predict every sample, code it as eight binary decisions.

For each sample the tables' network gives a mean and a scale; the logistic distribution around them gives
every level a mass. The level is found by halving 0...255 eight times; each decision is coded with the
mass of the upper half in proportion to both. Encoder and decoder are the same walk over the samples: the
encoder's ``code`` writes the decision it is given, the decoder's ignores it and returns the one it reads.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgegrain.contract.coder_tables import CoderTables
from edgegrain.contract.logistic import MEAN_BITS, cumulative_row, row_start
from edgegrain.contract.lr_context import ContextReader, IntArray, coding_order
from edgegrain.contract.range_coder import PROBABILITY_BITS, PROBABILITY_ONE, RangeDecoder, RangeEncoder

__all__ = ["CoderTables", "decode_lr", "encode_lr"]


def _code_level(coder: RangeEncoder | RangeDecoder, mean: int, scale: int, level: int) -> int:
    """Encode ``level``, or decode and return one, given its predicted distribution."""
    row, start = cumulative_row(scale), row_start(mean)
    low, below_low = 0, row[start]
    below_high = row[start + (256 << MEAN_BITS)] + 256
    size = 128
    while size:
        middle = low + size
        below_middle = row[start + (middle << MEAN_BITS)] + middle
        probability = ((below_high - below_middle) << PROBABILITY_BITS) // (below_high - below_low)
        if coder.code(level >= middle, min(max(probability, 1), PROBABILITY_ONE - 1)):
            low, below_low = middle, below_middle
        else:
            below_high = below_middle
        size >>= 1
    return low


def _code_samples(
    coder: RangeEncoder | RangeDecoder, levels: IntArray, width: int, height: int, tables: CoderTables
) -> IntArray:
    """Encode ``levels``, int32 [height * width, 3], or decode and return some, whatever they hold."""
    reader = ContextReader(width, height)
    for where in coding_order(width, height):
        for channel, network in enumerate(tables.channels):
            means, scales = network.predict(*reader.contexts(where, channel))
            reader.pixels[where, channel] = [
                _code_level(coder, mean, scale, level)
                for mean, scale, level in zip(means, scales, levels[where, channel].tolist(), strict=True)
            ]
    return reader.pixels[:-1]


def encode_lr(lr: npt.NDArray[np.uint8], tables: CoderTables) -> bytes:
    """Code an LR, uint8 [h, w, 3], into a body."""
    height, width = lr.shape[:2]
    encoder = RangeEncoder()
    _code_samples(encoder, lr.reshape(-1, 3).astype(np.int32), width, height, tables)
    return encoder.finish()


def decode_lr(body: bytes, width: int, height: int, tables: CoderTables) -> npt.NDArray[np.uint8]:
    """The LR, uint8 [height, width, 3], that ``encode_lr`` turned into ``body``.

    Raises:
        PayloadError: no LR of that size has this body.
    """
    decoder = RangeDecoder(body)
    nothing = np.zeros((height * width, 3), dtype=np.int32)
    levels = _code_samples(decoder, nothing, width, height, tables)
    decoder.finish()
    return levels.astype(np.uint8).reshape(height, width, 3)
