"""GRAIN's float encoder: its size, the authors' layout, its graph in every format."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from codec_contract.errors import ExportError, ModelError
from edgegrain.papers.bundle_parts import state_digest
from edgegrain.papers.grain.rrdb_encoder import FloatEncoderConfig, RRDBEncoder, load_rrdb_encoder, rrdb_graph
from export.encoder import export_encoder
from export.encoder.torch_graph import torch_encoder
from export.proof.inputs import make_inputs
from export.proof.prove import ProofJob, compare, run_all
from tests.unit.edgegrain.conftest import same, shaken

TINY = FloatEncoderConfig(channels=8, growth=4, blocks=2, scale=3)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_official_layouts_load_strictly(tmp_path: Path, suffix: str) -> None:
    encoder, path = RRDBEncoder(TINY), tmp_path / f"official{suffix}"
    tensors = {f"enc.{key}": value for key, value in encoder.state_dict().items()}
    tensors["dec.conv_first.weight"] = torch.zeros(1)  # the checkpoint holds the decoder too
    torch.save({"state_dict": tensors}, path) if suffix == ".pt" else save_file(tensors, path)
    loaded = load_rrdb_encoder(path)
    assert loaded.config == TINY and not loaded.training
    assert same(loaded, encoder)


def test_a_key_too_few_or_too_many_is_refused(tmp_path: Path) -> None:
    path, state = tmp_path / "encoder.safetensors", RRDBEncoder(TINY).state_dict()
    other = {"trunk_conv.scale": torch.zeros(1)}
    fewer = {name: tensor for name, tensor in state.items() if name != "trunk_conv.bias"}
    for tensors, message in (
        (fewer, r"missing \(trunk_conv\.bias\)"),
        (state | other, r"unknown \(trunk_conv\.scale\)"),
        (other, "lacks the tensor 'conv_first.weight'"),
    ):
        save_file(tensors, path)
        with pytest.raises(ModelError, match=message):
            load_rrdb_encoder(path)


SMALL = FloatEncoderConfig(channels=8, growth=4, blocks=2, scale=2)


@pytest.fixture(scope="module")
def encoder() -> RRDBEncoder:
    """Its LRs have the spread of a trained one's."""
    encoder = shaken(RRDBEncoder, SMALL, 0.1)
    with torch.no_grad():
        encoder.out[2].weight.mul_(0.4 / encoder(torch.rand(1, 3, 64, 64) * 2 - 1).std())
    return encoder


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
    assert (graph.hr, graph.lr, graph.exact) == (1024, 16, False)


def test_all_formats_agree_up_to_rounding(encoder: RRDBEncoder, tmp_path: Path) -> None:
    graph = rrdb_graph(encoder, 64)
    files = export_encoder(graph, tmp_path)
    rows = compare(run_all(ProofJob(graph, files, 20).runtimes(), make_inputs(64, 20)))
    assert {row["name"].split()[0] for row in rows} == {"LiteRT", "ONNX", "Core", "torch"}
    assert max(row["largest_step"] for row in rows) <= 1
    assert max(row["differing_bytes"] / row["bytes_compared"] for row in rows) < 0.005  # flips, not another encoder


def test_sides_that_cannot_be_halved_are_refused(encoder: RRDBEncoder) -> None:
    with pytest.raises(ExportError, match="halved"):
        rrdb_graph(encoder, 62)


def test_the_digest_depends_on_names_values_and_configuration() -> None:
    a, b = torch.ones(2), torch.zeros(2)
    states = {"a": a, "b": b}, {"b": b, "a": a}, {"a": a}, {"a": b, "b": a}
    digests = {state_digest(state, "1") for state in states} | {state_digest(states[0], "2")}
    assert len(digests) == 4 and all(len(digest) == 32 for digest in digests)
