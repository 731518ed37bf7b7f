"""The lossless coder of an LR: predict every sample, code it as eight binary decisions.

For each sample the tables' network predicts a mean and a scale, whose logistic distribution assigns every level a mass.
The level is found by halving 0...255 eight times; each decision is coded with the share of the upper half's mass.
Encoder and decoder run the same loop over the samples: the encoder's ``code`` writes the given level, the decoder's
ignores it and returns the level that it reads.
"""

from __future__ import annotations

from array import array
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from codec_contract.errors import PayloadError
from codec_contract.lr_coder.coder_tables import ChannelNetwork, CoderTables, to_indices, to_levels
from codec_contract.lr_coder.context import MEAN_BITS, SCALE_STEPS, cumulative_row, row_start
from codec_contract.lr_coder.line_predictor import LinePredictor
from codec_contract.lr_coder.range_coder import RangeDecoder, RangeEncoder

_STEPS = tuple(1 << (bit + MEAN_BITS) for bit in range(7, -1, -1))
"""Halving the 256 levels, in places of a row."""


def encode_lr(lr: npt.NDArray[np.uint8], tables: CoderTables) -> bytes:
    """Code an LR, uint8 [h, w, 3], into a body, with its levels rounded to multiples of ``tables.step``."""
    height, width = lr.shape[:2]
    encoder = RangeEncoder()
    _code_samples(encoder, to_indices(lr, tables.step).reshape(-1, 3), width, height, tables)
    return encoder.finish()


def decode_lr(body: bytes, width: int, height: int, tables: CoderTables) -> npt.NDArray[np.uint8]:
    """Decode a body from ``encode_lr`` to the LR, uint8 [height, width, 3]."""
    decoder = RangeDecoder(body)
    indices = _code_samples(decoder, np.zeros((height * width, 3), np.uint8), width, height, tables)
    decoder.finish()
    if indices.max() > to_indices(np.array([255], np.uint8), tables.step)[0]:
        raise PayloadError(f"the payload is corrupt: level {tables.step} x {indices.max()} is above 255")
    return to_levels(indices, tables.step).reshape(height, width, 3)


@lru_cache(maxsize=SCALE_STEPS)
def _masses(scale: int) -> array[int]:
    """Sixteen times the mass below each place of ``cumulative_row``, a part in 2**20 for every level in it.

    Sixteen times, because a place is a sixteenth of a level; only ratios of masses count.
    """
    row = np.array(cumulative_row(scale), dtype=np.int64)
    return array("i", ((row << MEAN_BITS) + np.arange(len(row))).tolist())


@lru_cache(maxsize=8)
def _predictor(channels: tuple[ChannelNetwork, ChannelNetwork, ChannelNetwork]) -> LinePredictor:
    return LinePredictor(channels)


def _code_samples(
    coder: RangeEncoder | RangeDecoder, levels: npt.NDArray[np.uint8], width: int, height: int, tables: CoderTables
) -> npt.NDArray[np.uint8]:
    """Encode ``levels``, uint8 [height * width, 3]; or decode and return levels, ignoring the given ones."""
    coded = np.empty_like(levels)
    for line in _predictor(tables.channels).lines(width, height):
        given = levels[line.where].T.tolist()
        for channel in range(3):
            found = []
            for mean, scale, level in zip(*line.predict(channel), given[channel], strict=True):
                start = row_start(mean)
                place = coder.code(_masses(scale), start, _STEPS, start + (level << MEAN_BITS))
                found.append((place - start) >> MEAN_BITS)
            line.samples[:, channel] = found
        coded[line.where] = line.samples
    return coded
