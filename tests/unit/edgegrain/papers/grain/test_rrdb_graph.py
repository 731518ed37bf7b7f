from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from codec_contract.errors import ExportError
from edgegrain.papers.grain.rrdb_encoder import FloatEncoderConfig, RRDBEncoder, random_rrdb_encoder, rrdb_graph
from export.encoder.formats import export_encoder
from export.encoder.torch_graph import torch_encoder
from export.proof.comparison import ProofJob, flip_report
from export.proof.proof_report import operations

TINY = FloatEncoderConfig(channels=8, growth=4, blocks=2, scale=2)


@pytest.fixture(scope="module")
def encoder() -> RRDBEncoder:
    return random_rrdb_encoder(64, 16, seed=4, config=TINY)


def test_the_graph_computes_what_the_module_does(encoder: RRDBEncoder) -> None:
    noise = np.random.default_rng(7).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    graph = rrdb_graph(encoder, 64)
    expected = encoder.encode(noise)
    assert expected.shape == (3, 16, 16, 3) and expected.std() > 20
    lr = torch_encoder(graph, onednn=True)(noise)
    step = np.abs(lr.astype(int) - expected.astype(int))
    assert step.max() <= 1 and (step > 0).mean() < 1e-2


def test_costs_at_1024_are_those_of_the_official_encoder() -> None:
    graph = rrdb_graph(RRDBEncoder(), 1024)
    assert graph.flops() == pytest.approx(33.1e9, rel=0.01)
    assert graph.parameters() == sum(parameter.numel() for parameter in RRDBEncoder().parameters())
    assert graph.largest_tensor() == 4 * 64 * 1024**2
    assert (graph.hr, graph.lr, graph.exact) == (1024, 16, False)


def test_all_formats_agree_up_to_rounding(encoder: RRDBEncoder, tmp_path: Path) -> None:
    graph = rrdb_graph(encoder, 64)
    files = export_encoder(graph, tmp_path)
    report = flip_report(ProofJob(graph, files, 20).run(slice(None)))
    assert {name.split()[0] for name in report.runtimes} == {"LiteRT", "ONNX", "Core", "torch"}
    assert report.largest_step <= 1
    assert report.worst[2] < 5000  # flips, not another encoder
    kinds = {kind for form, path in files.items() for kind in operations(form, path)}
    assert not kinds & {"DEQUANTIZE", "constexpr_affine_dequantize"}  # float weights stay float32


def test_sides_that_cannot_be_halved_are_refused(encoder: RRDBEncoder) -> None:
    with pytest.raises(ExportError, match="halved"):
        rrdb_graph(encoder, 62)
    with pytest.raises(ExportError, match="halves sides"):
        random_rrdb_encoder(96, 16)
