"""Whole decoders with channels-last ops, on the library's CPU kernels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest

from codec_contract.errors import ExportError
from export.decoder.command import export_decoder
from export.decoder.comparison import compare_decoder
from export.decoder.decoder_options import DecoderOptions, Noise, Ops, Pixels, Precision, WeightStorage
from server_decoder.cuda_ops import library
from server_decoder.decoder_session import DecoderSession
from server_decoder.grain.grain import Grain
from server_decoder.grain.rrdb_decoder import RRDBDecoder
from tests.tiny_grain import TINY, TINY_MOBILE, tiny_grain

LR = TINY.decoder.lr


@pytest.fixture(autouse=True)
def built(ops_library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library is where sessions look for it."""
    monkeypatch.setattr(library, "BUILT", ops_library.parent)


def export(decoder: Grain | RRDBDecoder, precision: Precision, *, seeded: bool = False) -> bytes:
    noise = Noise.seeded if seeded else Noise.constant
    return export_decoder(decoder, LR, DecoderOptions(WeightStorage.float16, precision, noise, Ops.fused))


def some_lrs(batch: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (batch, LR, LR, 3), np.uint8)


def kinds(tensors: Sequence[onnx.TensorProto]) -> set[int]:
    return {tensor.data_type for tensor in tensors if np.prod(tensor.dims) >= 4096}


def test_a_decoder_in_float32() -> None:
    decoder = tiny_grain()
    model = export(decoder, Precision.float32)
    comparison = compare_decoder(model, decoder, some_lrs())
    assert comparison.differing_bytes < 0.01 and comparison.largest_difference <= 1 / 127.5
    # Rounded weights that are only ordered differently are stored as halves.
    graph = onnx.load_model_from_string(model).graph
    assert kinds(graph.initializer) >= {onnx.TensorProto.FLOAT16}
    assert len([node for node in graph.node if node.op_type == "FusedConv"]) == 29


def test_a_decoder_in_float16_with_seeded_noise() -> None:
    decoder = tiny_grain(TINY_MOBILE)
    model = export(decoder, Precision.float16, seeded=True)
    comparison = compare_decoder(model, decoder, some_lrs(), Precision.float16)
    assert comparison.psnr > 58 and 0 < comparison.differing_bytes < 0.1
    session = DecoderSession(model)
    assert session.quantizes and session.fused and session.takes_seed
    first = session.decode(some_lrs(), seed=1)
    assert (session.decode(some_lrs(), seed=2) != first).mean() > 0.05
    steps = session.decode(some_lrs()[:1], seed=1).astype(int) - first[:1]
    assert np.abs(steps).max() <= 1 and (steps != 0).mean() < 0.01  # halves at another batch size


def test_a_decoder_without_generator() -> None:
    decoder = tiny_grain().decoder
    comparison = compare_decoder(export(decoder, Precision.float32), decoder, some_lrs())
    assert comparison.differing_bytes < 0.01


def test_forms_that_do_not_exist() -> None:
    with pytest.raises(ExportError, match="takes and gives uint8"):
        DecoderOptions(ops=Ops.fused, pixels=Pixels.float32)
    with pytest.raises(ExportError, match="--storage float16"):
        DecoderOptions(WeightStorage.compact, ops=Ops.fused)
    assert DecoderOptions(ops=Ops.fused).pixel_type is Pixels.uint8
    assert DecoderOptions().pixel_type is Pixels.float32


@pytest.mark.parametrize("storage", [WeightStorage.float32, WeightStorage.compact])
def test_halves_are_stored_as_halves(storage: WeightStorage) -> None:
    with pytest.raises(ExportError, match=f"not as {storage}; leave --storage out"):
        DecoderOptions(storage, Precision.float16)
    assert DecoderOptions(precision=Precision.float16).stored is WeightStorage.float16
