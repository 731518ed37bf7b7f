"""An encoder graph as a torch module, the runtime of training and servers."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from export.encoder import graph as g
from export.encoder.graph import EncoderGraph


def torch_encoder(graph: EncoderGraph, *, onednn: bool) -> Callable[[np.ndarray], np.ndarray]:
    """A function from uint8 ``[N, hr, hr, 3]`` to uint8 ``[N, lr, lr, 3]``.

    Without oneDNN torch uses its own kernels and NNPACK (Winograd, from batch 16 on).
    """
    module = TorchGraph(graph)

    @torch.inference_mode()
    def encode(rgb: np.ndarray) -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # newer torch warns about TF32 for GPUs when these flags are set
            with torch.backends.mkldnn.flags(enabled=onednn):
                return module(torch.from_numpy(np.ascontiguousarray(rgb))).numpy()

    return encode


class TorchGraph(nn.Module):
    """uint8 ``[N, hr, hr, 3]`` -> uint8 ``[N, lr, lr, 3]``."""

    def __init__(self, graph: EncoderGraph) -> None:
        super().__init__()
        self.graph = graph
        for node in graph.nodes:
            if isinstance(node, g.Conv):
                for part, value in (("weight", node.weight), ("bias", node.bias)):
                    self.register_buffer(_name(node, part), torch.from_numpy(np.ascontiguousarray(value)).float())

    def forward(self, image: Tensor) -> Tensor:
        lr = self.graph.run(image.permute(0, 3, 1, 2).contiguous().float(), self._operation)
        return lr.to(torch.uint8).permute(0, 2, 3, 1)

    def _operation(self, node: g.Node, inputs: list[Tensor]) -> Tensor:
        x = inputs[0]
        match node:
            case g.Conv():
                return self._convolve(node, x)
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
                return x.clamp(0, node.high)
            case g.Scale():
                return x * node.factor + node.offset
            case g.LeakyRelu():
                return F.leaky_relu(x, node.slope)
            case g.Concat():
                return torch.cat(inputs, 1)

    def _convolve(self, node: g.Conv, x: Tensor) -> Tensor:
        weight, bias = self.get_buffer(_name(node, "weight")), self.get_buffer(_name(node, "bias"))
        top, left, bottom, right = node.padding
        if top == left == bottom == right:
            return F.conv2d(x, weight, bias, node.strides, top, groups=node.groups)
        return F.conv2d(F.pad(x, (left, right, top, bottom)), weight, bias, node.strides, groups=node.groups)


def _name(node: g.Conv, part: str) -> str:
    return f"{node.name}.{part}".replace(".", "_")  # names of buffers have no dots
