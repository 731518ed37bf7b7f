"""The forms in which a decoder can be exported."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Weights(enum.StrEnum):
    """Storage of the decoder's weights; `Precision` is the type it computes in."""

    float32 = "float32"
    float16 = "float16"
    compact = "compact"
    """Large weights as int8 with a scale per output channel, the rest as float16."""


class Precision(enum.StrEnum):
    """Type of the decoder's convolutions; its input and its picture are float32."""

    float32 = "float32"
    float16 = "float16"
    """For GPUs: half the memory and several times the speed. Values that could overflow stay float32."""


class Noise(enum.StrEnum):
    """Source of the generator's noise."""

    constant = "constant"
    """The same for every picture, inside the graph."""
    seeded = "seeded"
    """An input, which sessions draw from a seed."""


class Ops(enum.StrEnum):
    """Operators of the generator's memory-bound steps."""

    plain = "plain"
    """ONNX's own operators, which run everywhere."""
    fused = "fused"
    """Operators of ``com.edgegrain``: the decoder needs their library (``make ops``; docs/cuda_ops.md)."""


@dataclass(frozen=True)
class DecoderForm:
    """One combination of them; ``weights`` None stores what ``precision`` computes in."""

    weights: Weights | None = None
    precision: Precision = Precision.float32
    noise: Noise = Noise.constant
    ops: Ops = Ops.plain

    @property
    def stored(self) -> Weights:
        """Storage of the weights."""
        return self.weights or Weights(self.precision.value)
