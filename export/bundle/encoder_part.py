"""The encoder of a bundle: the graph that its files are exported from, and what the manifest says about it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from codec_contract.bundle.file_names import ENCODER_WEIGHTS, GOLDEN
from codec_contract.errors import ExportError
from codec_contract.files import write_atomically
from codec_contract.fit import PREPROCESSING
from edge_encoder import bounds
from edge_encoder import integer_network as integer
from edge_encoder.golden_inputs import make_golden
from edge_encoder.integer_network import IntegerNetwork
from export.encoder.graph import EncoderGraph, exact_graph


@dataclass(frozen=True)
class EncoderPart:
    """A bundle's encoder.

    Attributes:
        graph: exported to every format.
        described: the manifest's ``encoder``.
        digest: 32 bytes, SHA-256 of the weights, for the LR contract id.
        write_weights: writes the encoder's own files (weights, golden vectors) into a folder.
        preprocessing: the manifest's; part of the LR contract too.
    """

    graph: EncoderGraph
    described: Mapping[str, Any]
    digest: bytes
    write_weights: Callable[[Path], None]
    preprocessing: Mapping[str, Any]


def exact_encoder(network: IntegerNetwork) -> EncoderPart:
    """The part of an integer network, with its proven bound and its golden vectors.

    Raises:
        ExportError: a bound cannot be proven.
    """
    proof = bounds.prove(network)
    golden = make_golden(lambda rgb: integer.run_reference(network, rgb), network.hr)

    def write_weights(folder: Path) -> None:
        integer.save_integer_network(network, folder / ENCODER_WEIGHTS)
        write_atomically(folder / GOLDEN, (json.dumps(golden, indent=1) + "\n").encode())

    described = {
        "architecture": network.architecture,
        "layers": len(network.layers),
        "parameters": network.parameters,
        "flops": 2 * network.multiply_adds(),
        "max_accumulator_log2": round(proof.worst_log2, 2),
    }
    return EncoderPart(exact_graph(network), described, integer.integer_digest(network), write_weights, PREPROCESSING)


def float_encoder(graph: EncoderGraph, digest: bytes, write_weights: Callable[[Path], None],
                  preprocessing: Mapping[str, Any] = PREPROCESSING) -> EncoderPart:
    """The part of a float network, whose LRs may differ by a level between runtimes."""
    described = {"architecture": graph.name, "exact": False, "parameters": graph.parameters(), "flops": graph.flops()}
    return EncoderPart(graph, described, digest, write_weights, preprocessing)


def compare_encoder(encode: Callable[[np.ndarray], np.ndarray], pictures: np.ndarray, expected: np.ndarray) -> float:
    """LR bytes per million in which an exported float encoder differs from its network.

    Args:
        encode: the exported encoder: uint8 ``[N, S, S, 3]`` -> uint8 ``[N, s, s, 3]``.
        pictures: to compare on.
        expected: the network's LRs of them.

    Raises:
        ExportError: a byte differs by more than one level.
    """
    steps = np.abs(encode(pictures).astype(np.int16) - expected)
    if steps.max() > 1:
        raise ExportError(f"the exported encoder differs from torch by {steps.max()} levels, more than 1")
    return round(1e6 * float((steps > 0).mean()), 2)
