"""Packs for GPU hosts: graphs without weights, weights of the same spread, kernels of one architecture."""

import json
import math
import struct
from pathlib import Path

import numpy as np
import onnx
import pack
import pytest
import torch

from tests.tiny_grain import INVERTIBLE, tiny_grain


def test_a_pack_holds_the_decoder_without_its_weights(packed: Path) -> None:
    table = pack.read_table(packed)
    assert (table["lr"], table["hr"], table["forms"]) == (8, 16, ["plain.float32", "fused.float32"])
    numbers = sum(math.prod(tensor["shape"]) for tensor in table["tensors"])
    assert (packed / "float32.bin").stat().st_size == 4 * numbers
    inside = onnx.load(packed / "plain.float32.onnx", load_external_data=False).graph.initializer
    outside = [tensor for tensor in inside if tensor.data_location == onnx.TensorProto.EXTERNAL]
    left = sum(math.prod(tensor.dims) for tensor in inside if tensor not in outside)
    assert len(outside) > 5 and left < numbers / 20
    decoder = tiny_grain(INVERTIBLE)
    products: list[int] = []
    for module in decoder.decoder.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda conv, _, y: products.append(conv.weight[0].numel() * y.numel()))
    x = torch.rand(1, 3, 8, 8)
    with torch.no_grad():  # two builds of one network: kernels may add in another order
        torch.testing.assert_close(pack.load(packed)(x), decoder(x), atol=1e-5, rtol=1e-4)
    assert 1 <= table["flop"] / (2 * sum(products)) < 1.1  # two operations per product


def test_a_pack_is_filled_with_random_weights_of_the_same_spread(packed: Path, tmp_path: Path) -> None:
    table = pack.read_table(packed)
    own = table["own_tensors"]["fused.float32"]
    numbers = sum(math.prod(tensor["shape"]) for tensor in own)
    assert (packed / "fused.float32.bin").stat().st_size == 4 * numbers
    weight = table["tensors"][0]
    graph = onnx.load(packed / "fused.float32.onnx").graph  # with its weights
    (held,) = (onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer if tensor.name == weight["name"])
    assert weight["name"] == "decoder.conv_first.weight" and held.mean() == pytest.approx(weight["mean"], abs=1e-7)
    (tmp_path / "pack.json").write_text(json.dumps({**table, "filled": False}))
    pack.fill(tmp_path)
    filled = (tmp_path / "float32.bin").read_bytes()
    pack.fill(tmp_path)
    assert (tmp_path / "float32.bin").read_bytes() == filled != (packed / "float32.bin").read_bytes()
    found, expected = pack.load(tmp_path).state_dict(), pack.load(packed).state_dict()
    name = "decoder.scales.0.blocks.0.conv1.weight"
    assert found[name].std().item() == pytest.approx(expected[name].std().item(), rel=0.1)
    values = np.fromfile(tmp_path / "fused.float32.bin", np.float32)
    assert len(values) == numbers
    for tensor in own:  # none is beyond the real ones, so squares stay positive
        part, values = np.split(values, [math.prod(tensor["shape"])])
        assert tensor["least"] <= part.min() and part.max() <= tensor["largest"]
    assert pack.reference_form(table, "fused.float32") == "plain.float32"
    assert pack.reference_form(pack.read_table(tmp_path), "fused.float32") == "fused.float32"


def test_kernels_of_other_architectures_are_removed() -> None:
    def entry(architecture: int, payload: bytes) -> bytes:
        """A kernel in a fat binary: a header of 64 bytes, and the code."""
        return struct.pack("<HHIQ12xI32x", 2, 0x101, 64, len(payload), architecture) + payload

    def container(*entries: bytes) -> bytes:
        return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(b"".join(entries))) + b"".join(entries)

    kept, other = entry(90, b"k" * 40), entry(80, b"o" * 88)
    without, whole = container(other), container(kept)  # the first may have code for newer devices
    section = container(other, kept, other) + bytes(8) + without
    found = pack.keep_architecture(section, 90)
    assert len(found) == len(section) and found.startswith(whole) and found.endswith(without)
    assert not any(found[len(whole) : -len(without)])
