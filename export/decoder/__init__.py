"""Decoders of the server as ONNX graphs; here the options of their export, which need no torch."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from codec_contract.errors import ExportError


class WeightStorage(enum.StrEnum):
    """Storage of the decoder's weights; `Precision` is the type it computes in."""

    float32 = "float32"
    float16 = "float16"
    compact = "compact"  # large weights as int8 with a scale per output channel, the rest as float16


class Precision(enum.StrEnum):
    """Type of the decoder's convolutions; its input and its picture are float32."""

    float32 = "float32"
    float16 = "float16"  # for GPUs, with fused operators; values that could overflow are float32
    int8 = "int8"  # for CPUs: up to three times the speed, other pictures by about 38 dB


class Ops(enum.StrEnum):
    """Operators of the decoder."""

    plain = "plain"  # ONNX's own, which run everywhere
    fused = "fused"  # of ``com.edgegrain``, on channels-last maps; they need its library (docs/cuda_ops.md)


class Pixels(enum.StrEnum):
    """Type of the decoder's input and output."""

    float32 = "float32"  # values in [-1, 1], [B, 3, H, W]; the caller quantizes
    uint8 = "uint8"  # levels, [B, H, W, 3]; the graph quantizes, so a GPU receives and returns a quarter of the bytes


@dataclass(frozen=True)
class DecoderOptions:
    """Options of a decoder's export. A ``storage`` of None is the type it computes in; ``pixels`` of None are uint8
    with fused operators, float32 with ONNX's own."""

    storage: WeightStorage | None = None
    precision: Precision = Precision.float32
    ops: Ops = Ops.plain
    pixels: Pixels | None = None

    def __post_init__(self) -> None:
        if self.precision is Precision.float16 and self.ops is Ops.plain:
            raise ExportError("a decoder that computes in float16 has fused operators; export it with --ops fused")
        if self.precision is Precision.int8 and (
            self.ops is Ops.fused or self.pixel_type is Pixels.uint8 or self.stored is not WeightStorage.compact
        ):
            raise ExportError(
                "a decoder in int8 has ONNX's own operators, takes and gives float32, and holds its "
                "weights as int8; leave --ops, --pixels and --storage out"
            )
        if self.ops is Ops.fused and self.pixels is Pixels.float32:
            raise ExportError("a decoder with fused operators takes and gives uint8; leave --pixels float32 out")
        if self.ops is Ops.fused and self.stored.value != self.precision.value:
            raise ExportError("fused operators hold their filters in the type they compute in; leave --storage out")

    @property
    def pixel_type(self) -> Pixels:
        return self.pixels or (Pixels.uint8 if self.ops is Ops.fused else Pixels.float32)

    @property
    def stored(self) -> WeightStorage:
        computed = "compact" if self.precision is Precision.int8 else self.precision.value
        return self.storage or WeightStorage(computed)
