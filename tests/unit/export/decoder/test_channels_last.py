"""Channels-last decoders compute what torch's decoders compute, with one node per convolution."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from codec_contract.errors import ExportError
from codec_contract.quantization import dequantize, quantize
from export.decoder.channels_last import channels_last_graph
from export.decoder.decoder_graph import decoder_graph
from server_decoder.inference import noise_maps, noise_sides
from tests.reference_ops import run_reference_graph
from tests.unit.export.decoder.conftest import FAMILIES, HALF, SEEDED

Family = Callable[[str], tuple[nn.Module, int]]
Graph = Callable[..., onnx.ModelProto]


def levels(lr: int, batch: int = 2) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (batch, lr, lr, 3), np.uint8)


def values(lrs: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(dequantize(lrs.astype(np.float32)).transpose(0, 3, 1, 2)))


def run(model: onnx.ModelProto, lrs: np.ndarray, **others: np.ndarray) -> np.ndarray:
    """The picture before it is rounded, ``[B, 3, H, W]``."""
    unrounded = onnx.ModelProto()
    unrounded.CopyFrom(model)
    last = unrounded.graph.node.pop()
    assert last.op_type == "QuantizePicture"
    del unrounded.graph.output[:]
    unrounded.graph.output.append(onnx.helper.make_tensor_value_info(last.input[0], onnx.TensorProto.FLOAT, None))
    return run_reference_graph(unrounded, {"lr": lrs, **others}).transpose(0, 3, 1, 2)


def ops(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in (SEEDED, HALF)])
@torch.no_grad()
def test_every_family_computes_the_same(name: str, family: Family, family_graph: Graph) -> None:
    decoder, lr = family(name)
    model = channels_last_graph(family_graph(name))
    assert not {"Conv", "DemodBiasAct"} & set(ops(model))
    for batch in (1, 3):
        lrs = levels(lr, batch)
        expected = decoder(values(lrs)).numpy()
        np.testing.assert_allclose(run(model, lrs), expected, atol=2e-6 * np.abs(expected).max(), rtol=0)


@torch.no_grad()
def test_noise_stays_an_input(family: Family, family_graph: Graph) -> None:
    decoder, lr = family(SEEDED)
    model = channels_last_graph(family_graph(SEEDED))
    assert not {"Conv", "DemodBiasAct"} & set(ops(model))
    sides = noise_sides(decoder.prior)
    for batch in (1, 3):
        drawn = np.random.default_rng(1).standard_normal((batch, sum(side**2 for side in sides)), np.float32)
        lrs = levels(lr, batch)
        noise = noise_maps(torch.from_numpy(drawn), sides)
        expected = decoder.forward_all(values(lrs), noise=noise).final.numpy()
        np.testing.assert_allclose(run(model, lrs, noise=drawn), expected, atol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_no_family_reads_the_batch(name: str, family_graph: Graph) -> None:
    """What `export.decoder.batch_views` gives; it is tested here, where the graphs are."""
    graph = family_graph(name).graph
    constants = {tensor.name for tensor in graph.initializer}
    assert not {"Shape", "Size"} & {node.op_type for node in graph.node}
    assert all(node.input[1] in constants for node in graph.node if node.op_type == "Reshape")


# StyleGAN2 in float16: test_inference.py.
@torch.no_grad()
def test_halves_stay_close(family: Family, family_graph: Graph) -> None:
    decoder, lr = family(HALF)
    model = channels_last_graph(family_graph(HALF))
    lrs = levels(lr)
    error = run(model, lrs) - decoder(values(lrs)).numpy()
    assert 10 * np.log10(4 / np.square(error).mean()) > 70  # dB
    weights = {node.input[1] for node in model.graph.node if node.op_type == "FusedConv"}
    held = [tensor for tensor in model.graph.initializer if tensor.name in weights]
    assert {tensor.data_type for tensor in held} == {onnx.TensorProto.FLOAT16}


@torch.no_grad()
def test_levels_in_levels_out(family: Family, family_graph: Graph) -> None:
    decoder, lr = family("rrdb-bilinear")
    model = channels_last_graph(family_graph("rrdb-bilinear"))
    signature = [(value.name, value.type.tensor_type.elem_type,
                  [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim])
                 for value in (*model.graph.input, *model.graph.output)]
    assert signature == [("lr", onnx.TensorProto.UINT8, ["batch", 8, 8, 3]),
                         ("hr", onnx.TensorProto.UINT8, ["batch", 32, 32, 3])]
    lrs = levels(lr)
    picture = run_reference_graph(model, {"lr": lrs})
    wanted = quantize(decoder(values(lrs)).numpy()).transpose(0, 2, 3, 1)
    assert picture.dtype == np.uint8 and (picture != wanted).mean() < 1e-3


@pytest.mark.parametrize(("name", "nodes"), [
    # Two convolutions of the head, one at each scale's beginning or end, two of a residual block.
    ("rrdb-nearest", {"FusedConv": 8, "DenseBlock": 4, "Upsample": 2}),
    ("rrdb-bilinear", {"FusedConv": 10, "DenseBlock": 4, "Upsample": 2}),
    ("rrdb-subpixel", {"FusedConv": 10, "DenseBlock": 4})])
def test_an_rrdb_decoder_has_a_node_per_convolution(name: str, nodes: dict[str, int], family_graph: Graph) -> None:
    model = channels_last_graph(family_graph(name))
    assert ops(model) == {**nodes, "DequantizeLR": 1, "QuantizePicture": 1}
    blocks = [node for node in model.graph.node if node.op_type == "DenseBlock"]
    # Only the last block of an RRDB adds the RRDB's input; the reduced RRDB is one block.
    assert [bool(block.input[1]) for block in blocks] == [False, False, True, True]
    scales = {item.name: item.f for item in blocks[-1].attribute}
    assert scales == pytest.approx({"slope": 0.2, "scale": 0.2, "outer_scale": 0.2})


def test_a_generator_has_no_steps_between_its_convolutions(family_graph: Graph) -> None:
    model = channels_last_graph(family_graph(SEEDED))
    counts = ops(model)
    # Nine layers, four of which upsample; nine styles.
    assert counts["ModulationFactors"] == 9 and counts["FilteredBiasAct"] == 4
    assert not {"LeakyRelu", "Transpose", "Pow", "Clip", "Div", "Resize", "ConvTranspose"} & set(counts)
    assert sum(counts.values()) < 200
    constants = {tensor.name for tensor in model.graph.initializer}
    sides = {value.name: [side.dim_value for side in value.type.tensor_type.shape.dim]
             for value in model.graph.value_info if value.name not in constants}
    maps = {name for name, side in sides.items() if len(side) == 4 and side[1] > 1 and side[3] > 1}  # 1: noise
    read_by = {node.op_type for node in model.graph.node if maps & set(node.input)}
    # Maps pass through fused nodes; their channels are averaged, and pictures added.
    # Channel weights are multiplied with filters.
    assert read_by <= {"FusedConv", "FilteredBiasAct", "Upsample", "ReduceMean", "Add", "QuantizePicture"}


class Unusual(nn.Module):
    """An operator without a channels-last form between two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 3, 3, padding=1)

    def forward(self, lr: Tensor) -> Tensor:
        return self.last(torch.cumsum(self.first(lr), 2) / 8)


@torch.no_grad()
def test_other_operators_stay_channels_first() -> None:
    torch.manual_seed(1)
    decoder = Unusual().eval()
    model = channels_last_graph(decoder_graph(decoder, 8))
    counts = ops(model)
    assert (counts["Transpose"], counts["CumSum"], counts["FusedConv"]) == (2, 1, 2)
    lrs = levels(8)
    np.testing.assert_allclose(run(model, lrs), decoder(values(lrs)).numpy(), atol=1e-6)


class Flat(nn.Module):
    def forward(self, lr: Tensor) -> Tensor:
        return lr.flatten(1)


def test_a_graph_without_a_picture_is_refused() -> None:
    with pytest.raises(ExportError, match="output hr is .*expected 'hr'"):
        channels_last_graph(decoder_graph(Flat(), 4))
