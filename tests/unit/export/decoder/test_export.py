"""A decoder and an enlarger as one graph: it gives what both give one after the other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from codec_contract.bundle.manifest import load_manifest
from codec_contract.errors import ExportError
from export.decoder import DecoderOptions, Pixels
from export.decoder.export import (
    Comparison,
    DecoderSource,
    ExportedDecoder,
    append_enlarger,
    compare_joined,
    enlarger_factor,
    join_enlarger,
)
from server_decoder.decoder_session import DecoderSession
from server_decoder.enlarger_session import EnlargerSession
from server_decoder.grain.rrdb_decoder import DecoderConfig, RRDBDecoder, Scale
from tests.tiny_bundle import HR, LR, box_network, nearest_enlarger, quantizing_decoder, write_tiny_bundle

LRS = np.random.default_rng(0).integers(0, 256, (3, LR, LR, 3), np.uint8)


@pytest.fixture
def exported(tmp_path: Path) -> ExportedDecoder:
    """The decoder of a bundle with an enlarger."""
    manifest = load_manifest(write_tiny_bundle(tmp_path, decoder=quantizing_decoder(), doublings=2))
    unused = RRDBDecoder(DecoderConfig(scales=(Scale(LR, 4),)))
    source = DecoderSource(manifest.id, unused, box_network(), manifest)
    options = DecoderOptions(pixels=Pixels.uint8)
    return ExportedDecoder(source, options, quantizing_decoder(), Comparison(1, 0.0, 200.0, 0.0))


@pytest.mark.parametrize("size", [2 * HR, 4 * HR])
def test_the_joined_graph_decodes_and_enlarges(exported: ExportedDecoder, size: int) -> None:
    enlarged = append_enlarger(exported, size)
    pictures = DecoderSession(enlarged.model).decode(LRS)
    np.testing.assert_array_equal(pictures, LRS.repeat(size // LR, 1).repeat(size // LR, 2))
    assert enlarged.report()["size"] == size and enlarged.report()["bytes"] == len(enlarged.model)
    graph = onnx.load_model_from_string(enlarged.model).graph
    assert ([item.name for item in graph.input], [item.name for item in graph.output]) == (["lr"], ["hr"])


def test_the_decoders_own_size_is_left_alone(exported: ExportedDecoder) -> None:
    assert append_enlarger(exported, HR) is exported and "size" not in exported.report()


def test_other_sizes_and_forms_are_refused(exported: ExportedDecoder) -> None:
    with pytest.raises(ExportError, match="no decoder of 192x192 pixels; sizes of this one: 64, 128, 256"):
        append_enlarger(exported, 3 * HR)
    with pytest.raises(ExportError, match="it is no bundle"):
        enlarger_factor(None, HR)
    with pytest.raises(ExportError, match="--pixels uint8"):
        append_enlarger(replace(exported, options=DecoderOptions()), 2 * HR)


def test_a_graph_that_differs_from_its_parts_is_refused() -> None:
    model = join_enlarger(quantizing_decoder(), nearest_enlarger(1))
    enlarger = EnlargerSession(nearest_enlarger(1), HR)
    compare_joined(model, quantizing_decoder(), enlarger, 2, LRS)
    darker = onnx.load_model_from_string(quantizing_decoder())
    constant = next(item for item in darker.graph.initializer if item.name == "rounding")
    constant.CopyFrom(onnx.numpy_helper.from_array(np.float32(20), "rounding"))
    with pytest.raises(ExportError, match="differs from decoder and enlarger by"):
        wrong = join_enlarger(darker.SerializeToString(), nearest_enlarger(1))
        compare_joined(wrong, quantizing_decoder(), enlarger, 2, LRS)
