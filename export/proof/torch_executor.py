"""Runs an encoder graph eagerly with torch, the runtime of training and servers."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np

from export.encoder.graph import EncoderGraph


def torch_encoder(graph: EncoderGraph, *, onednn: bool) -> Callable[[np.ndarray], np.ndarray]:
    """A function from uint8 ``[N, hr, hr, 3]`` to uint8 ``[N, lr, lr, 3]``.

    Args:
        graph: the encoder.
        onednn: False uses torch's own kernels and NNPACK (Winograd, from batch 16 on).
    """
    import torch

    from export.encoder.torch_graph import TorchGraph

    module = TorchGraph(graph)

    @torch.inference_mode()
    def encode(rgb: np.ndarray) -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # newer torch warns about TF32 for GPUs when these flags are set
            with torch.backends.mkldnn.flags(enabled=onednn):
                return module(torch.from_numpy(np.ascontiguousarray(rgb))).numpy()

    return encode
