"""What the bundles of several papers have in common: float encoders, optional inputs, the comparison with torch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from codec_contract.errors import ExportError
from codec_contract.fit import PREPROCESSING
from codec_contract.lr_coder.coder_tables import CoderTables
from export.bundle.writer import EncoderPart, WrittenBundle, bundle_card, manifest_fields, write_bundle
from export.decoder.export import compare_decoder
from export.encoder import graph as g
from export.encoder.graph import EncoderGraph


def write_compared(
    folder: Path,
    codec: str,
    encoder: EncoderPart,
    decoder: nn.Module,
    model: bytes,
    lrs: np.ndarray,
    summary: str,
    remarks: Sequence[str] = (),
    *,
    tables: CoderTables,
    formats: Sequence[str],
    force: bool,
    encoder_flips: float | None = None,
    **fields: Any,
) -> WrittenBundle:
    """Compare an exported decoder with its network on ``lrs`` and write a bundle; ``fields``: of `manifest_fields`."""
    comparison = compare_decoder(model, decoder, lrs)
    described = manifest_fields(folder.name, codec, **fields)
    card = bundle_card(described, summary, remarks)
    manifest = write_bundle(folder, encoder, model, tables, described, card, formats, force=force)
    return WrittenBundle(manifest, comparison, encoder_flips)


def float_encoder(
    graph: EncoderGraph, digest: bytes, write: Callable[[Path], None], preprocessing: Mapping[str, Any] = PREPROCESSING
) -> EncoderPart:
    """The part of a float network, whose LRs may differ by a level between runtimes."""
    described = {"architecture": graph.name, "exact": False, "parameters": graph.parameters(), "flops": graph.flops()}
    return EncoderPart(graph, described, digest, write, preprocessing)


def compare_encoder(encode: Callable[[np.ndarray], np.ndarray], pictures: np.ndarray, expected: np.ndarray) -> float:
    """LR bytes per million in which an exported float encoder differs from its network's LRs of the pictures."""
    steps = np.abs(encode(pictures).astype(np.int16) - expected)
    if steps.max() > 1:
        raise ExportError(f"the exported encoder differs from torch by {steps.max()} levels, more than 1")
    return round(1e6 * float((steps > 0).mean()), 2)


def state_digest(state: Mapping[str, Tensor], config: str) -> bytes:
    """SHA-256 over a configuration and float32 weights, 32 bytes: it identifies a float encoder in an LR contract."""
    total = hashlib.sha256(config.encode())
    for name, tensor in sorted(state.items()):
        total.update(name.encode())
        total.update(tensor.detach().cpu().float().contiguous().numpy().astype("<f4").tobytes())
    return total.digest()


class GraphWriter:
    """The nodes of a float encoder whose leaky ReLUs have one slope; methods return the names of their results."""

    def __init__(self, slope: float) -> None:
        self.nodes: list[g.Node] = []
        self.slope = slope

    def add(self, node: g.Node) -> str:
        """Append any node."""
        self.nodes.append(node)
        return node.name

    def concat(self, name: str, parts: list[str]) -> str:
        """Stack tensors along the channels; one alone stays itself."""
        return parts[0] if len(parts) == 1 else self.add(g.Concat(name, tuple(parts)))

    def conv(self, name: str, source: str, module: nn.Conv2d) -> str:
        """A convolution with bias, and equal stride and padding in both directions."""
        weight, bias = (parameter.detach().numpy() for parameter in module.parameters())
        return self.add(g.Conv(name, source, weight, bias, module.stride[0], (int(module.padding[0]),) * 4))

    def leaky(self, source: str) -> str:
        """A leaky ReLU with the writer's slope."""
        return self.add(g.LeakyRelu(f"{source}.leaky", source, self.slope))

    def dense(self, name: str, source: str, convs: Sequence[nn.Conv2d]) -> str:
        """The last of ``convs``, each of which sees the source and all earlier outputs."""
        features = [source]
        for index, module in enumerate(convs, 1):
            y = self.conv(f"{name}.conv{index}", self.concat(f"{name}.in{index}", features), module)
            features.append(self.leaky(y) if index < len(convs) else y)
        return features[-1]
