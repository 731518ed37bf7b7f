"""The bicubic reduction in every format: strides that differ by direction, and not a byte that differs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edge_encoder.encoder_session import EncoderSession
from edge_encoder.integer_network import run_reference
from edgegrain.papers.face_sr.bicubic_network import bicubic_network
from export.encoder.formats import export_encoder
from export.encoder.graph import FORMATS, exact_graph
from export.proof.comparison import ProofJob, compare
from export.proof.proof_report import require_exact


def test_every_runtime_computes_its_bytes(tmp_path: Path) -> None:
    network = bicubic_network(64, 8)
    graph = exact_graph(network)
    assert graph.flops() == 2 * network.multiply_adds() and graph.shapes()["across.kinds"] == (15, 64, 8)
    export_encoder(graph, tmp_path, tuple(FORMATS))
    artefacts = {name: tmp_path / file for name, file in FORMATS.items()}
    results = compare(ProofJob(graph, artefacts, 20, network).run(slice(None)))
    require_exact(results)
    assert {result["inputs"] for result in results} == {20} and len(results) >= 8
    pictures = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
    session = EncoderSession(artefacts["onnx"])
    np.testing.assert_array_equal(session.encode(pictures), run_reference(network, pictures))
