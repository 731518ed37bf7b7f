"""Runs an encoder graph eagerly with torch, the runtime of training and servers."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from export.encoder import graph as g
from export.encoder.graph import EncoderGraph


def torch_encoder(graph: EncoderGraph, *, onednn: bool) -> Callable[[np.ndarray], np.ndarray]:
    """A function from uint8 ``[N, hr, hr, 3]`` to uint8 ``[N, lr, lr, 3]``.

    Args:
        graph: the encoder.
        onednn: False uses torch's own kernels and NNPACK (Winograd, from batch 16 on).
    """
    import torch
    import torch.nn.functional as F

    constants = {node.name: (torch.from_numpy(np.ascontiguousarray(node.weight)).float(),
                             torch.from_numpy(np.ascontiguousarray(node.bias)).float())
                 for node in graph.nodes if isinstance(node, g.Conv)}

    def convolve(node: g.Conv, x: torch.Tensor) -> torch.Tensor:
        weight, bias = constants[node.name]
        top, left, bottom, right = node.padding
        if (top, left) == (bottom, right) and top == left:
            return F.conv2d(x, weight, bias, node.strides, top, groups=node.groups)
        return F.conv2d(F.pad(x, (left, right, top, bottom)), weight, bias, node.strides, groups=node.groups)

    def _onednn(enabled: bool) -> Any:
        warnings.simplefilter("ignore")  # newer torch warns about TF32 for GPUs when these flags are set
        return torch.backends.mkldnn.flags(enabled=enabled)

    def operation(node: g.Node, inputs: list[torch.Tensor]) -> torch.Tensor:
        x = inputs[0]
        match node:
            case g.Conv():
                return convolve(node, x)
            case g.Add():
                return x + inputs[1]
            case g.Multiply():
                return x * inputs[1]
            case g.Floor():
                return x.floor()
            case g.Sigmoid():
                return x.sigmoid()
            case g.Exp():
                return x.exp()
            case g.Clip():
                return x.clamp(node.low, node.high)
            case g.Scale():
                return x * node.factor + node.offset
            case g.LeakyRelu():
                return F.leaky_relu(x, node.slope)
            case g.Concat():
                return torch.cat(inputs, 1)

    @torch.inference_mode()
    def encode(rgb: np.ndarray) -> np.ndarray:
        with warnings.catch_warnings(), _onednn(onednn):
            lr = graph.run(torch.from_numpy(np.ascontiguousarray(rgb.transpose(0, 3, 1, 2))).float(), operation)
        return lr.to(torch.uint8).numpy().transpose(0, 2, 3, 1)

    return encode
