"""An encoder graph in torch, the runtime of training and servers."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from export.encoder import graph as g
from export.encoder.graph import EncoderGraph


def torch_encoder(graph: EncoderGraph, *, onednn: bool) -> Callable[[np.ndarray], np.ndarray]:
    """A function from uint8 ``[N, hr, hr, 3]`` to uint8 ``[N, lr, lr, 3]``.

    Without oneDNN torch uses its own kernels and NNPACK (Winograd, from batch 16 on).
    """
    convs = [node for node in graph.nodes if isinstance(node, g.Conv)]
    weights = {node.name: [torch.tensor(part).float() for part in (node.weight, node.bias)] for node in convs}

    def compute(node: g.Node, inputs: list[Tensor]) -> Tensor:
        x = inputs[0]
        match node:
            case g.Conv():
                (weight, bias), (top, left, bottom, right) = weights[node.name], node.padding
                if top == left == bottom == right:
                    return F.conv2d(x, weight, bias, node.strides, top, groups=node.groups)
                return F.conv2d(F.pad(x, (left, right, top, bottom)), weight, bias, node.strides, groups=node.groups)
            case g.Multiply():
                return x * inputs[1]
            case g.Add() | g.Floor() | g.Sigmoid() | g.Exp():  # torch has the same names
                return getattr(torch, type(node).__name__.lower())(*inputs)
            case g.Clip():
                return x.clamp(0, node.high)
            case g.Scale():
                return x * node.factor + node.offset
            case g.LeakyRelu():
                return F.leaky_relu(x, node.slope)
            case g.Concat():
                return torch.cat(inputs, 1)

    @torch.inference_mode()
    def encode(rgb: np.ndarray) -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # newer torch warns about TF32 for GPUs when these flags are set
            with torch.backends.mkldnn.flags(enabled=onednn):
                image = torch.from_numpy(np.ascontiguousarray(rgb)).permute(0, 3, 1, 2).contiguous()
                return graph.run(image.float(), compute).to(torch.uint8).permute(0, 2, 3, 1).numpy()

    return encode
