"""Exported graphs have no shape arithmetic."""

from __future__ import annotations

import onnx
import pytest
import torch
from torch import Tensor, nn

from codec_contract.errors import ExportError
from export.decoder.decoder_graph import decoder_graph


class Reshaped(nn.Module):
    def forward(self, lr: Tensor) -> Tensor:
        return lr.reshape(lr.shape[0], 4, 12).reshape(lr.shape[0], 3, 4, 4)


class Repeated(nn.Module):
    def forward(self, lr: Tensor) -> Tensor:
        return lr + torch.ones(lr.shape[0], 3, 1, 1)


def test_a_view_gets_a_constant_shape() -> None:
    graph = decoder_graph(Reshaped(), 4).graph
    held = {tensor.name: onnx.numpy_helper.to_array(tensor).tolist() for tensor in graph.initializer}
    assert [held[node.input[1]] for node in graph.node] == [[-1, 4, 12], [-1, 3, 4, 4]]


def test_other_uses_of_the_batch_are_refused() -> None:
    with pytest.raises(ExportError, match="reads sizes with Shape"):
        decoder_graph(Repeated(), 4)
