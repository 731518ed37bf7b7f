"""Bundles of GLEAN and GCFSR: an exact reduction for phones, the network for servers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from codec_contract.bundle.controls import LARGEST_STRENGTH, SMALLEST_STRENGTH, STRENGTH
from codec_contract.bundle.manifest import Manifest
from codec_contract.errors import BundleError, ExportError
from codec_contract.lr_coder.coder_tables import CoderTables
from edge_encoder.integer_network import IntegerNetwork, run_reference
from export.bundle.irn_bundle import made_tiles
from export.bundle.writer import DECODER, assemble_bundle, refuse_to_replace
from export.decoder.command import Comparison, compare_decoder
from export.decoder.decoder_graph import decoder_graph, round_weights, store_half
from export.proof.runtimes import FORMATS
from server_decoder.decoder_session import INPUT, OUTPUT
from server_decoder.face_sr.gcfsr import GCFSR, GCFSRUpscaler
from server_decoder.face_sr.gcfsr import KIND as GCFSR_KIND
from server_decoder.face_sr.glean import GLEAN
from server_decoder.face_sr.glean import KIND as GLEAN_KIND

COMPARED = 2


@dataclass(frozen=True)
class Restorer:
    """A network that restores squares of ``hr`` from LRs of ``lr``.

    Attributes:
        codec: ``"glean"`` or ``"gcfsr"``.
        network: LR ``[B, 3, lr, lr]`` in [-1, 1] -> ``[B, 3, hr, hr]``; a second argument for every control.
        architecture: its configuration, plain JSON values.
        controls: name of an input that may be left out -> what the manifest says about it.
    """

    codec: str
    network: nn.Module
    hr: int
    lr: int
    architecture: Mapping[str, Any]
    controls: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Description:
    """What a bundle says about itself, as in the manifest.

    Attributes:
        card: the model card, Markdown.
        licence: of ``weights`` and ``data``.
        formats: of the encoder; ``onnx`` is among them.
        tables: of the payload's coder.
        force: replace a bundle that exists.
    """

    domain: str
    card: str
    licence: Mapping[str, str]
    training: Mapping[str, Any]
    version: str = "1.0.0"
    formats: Sequence[str] = tuple(FORMATS)
    tables: CoderTables = field(default_factory=CoderTables.default)
    force: bool = False


def glean_restorer(network: GLEAN) -> Restorer:
    """Of a GLEAN with its bank."""
    config = network.config
    return Restorer(GLEAN_KIND, network, config.prior.size, config.lr, config.as_dict())


def gcfsr_restorer(network: GCFSR, lr: int) -> Restorer:
    """Of a GCFSR, for one size of LRs. Except in the blind form it has the control ``strength``.

    Raises:
        BundleError: ``lr`` is no power of two that is a 4th to a 64th of the picture.
    """
    config = network.config
    if lr < 1 or lr & (lr - 1) or not SMALLEST_STRENGTH <= config.size / lr <= LARGEST_STRENGTH:
        raise BundleError(f"LRs of this network are {max(1, config.size / LARGEST_STRENGTH):g} to "
                          f"{config.size / SMALLEST_STRENGTH:g} pixels wide, a power of two, got {lr}")
    described = {"range": [SMALLEST_STRENGTH, LARGEST_STRENGTH], "default": config.size / lr}
    return Restorer(GCFSR_KIND, GCFSRUpscaler(network, lr), config.size, lr, config.as_dict(),
                    {} if config.blind else {STRENGTH: described})


def write_restorer_bundle(folder: Path, restorer: Restorer, encoder: IntegerNetwork, description: Description
                          ) -> tuple[Manifest, Comparison]:
    """Write the bundle of a network behind an exact reduction.

    Args:
        folder: of the bundle; its name becomes the id.
        restorer: its network's weights are rounded to float16.
        encoder: from ``hr`` to ``lr``.
        description: see there.

    Returns:
        The manifest, and the exported decoder beside torch.

    Raises:
        FileExistsError: the folder exists and is not to be replaced.
        ExportError: a conversion fails, or the export differs from torch.
        BundleError: the name makes no id, or encoder and decoder do not fit.
    """
    if (encoder.hr, encoder.lr) != (restorer.hr, restorer.lr):
        raise BundleError(f"the encoder goes from {encoder.hr} to {encoder.lr}, the network takes LRs of {restorer.lr} "
                          f"and makes pictures of {restorer.hr}")
    refuse_to_replace(folder, description.force)
    decoder = restorer.network.eval().requires_grad_(False)
    round_weights(decoder, compact=False)
    graph = store_half(decoder_graph(decoder, restorer.lr))
    for name in restorer.controls:
        _open_input(graph, name)
    model = bytes(graph.SerializeToString())
    comparison = compare_decoder(model, decoder, run_reference(encoder, np.stack(made_tiles(COMPARED, restorer.hr))))
    fields = {
        "id": folder.name, "version": description.version, "codec": restorer.codec, "domain": description.domain,
        "decoder": {"file": DECODER, "input": INPUT, "output": OUTPUT, "controls": list(restorer.controls),
                    **restorer.controls, "architecture": dict(restorer.architecture)},
        "training": dict(description.training), "evaluation": {}, "licence": dict(description.licence),
    }
    manifest = assemble_bundle(folder, encoder, model, description.tables, fields, card=description.card,
                               formats=description.formats, force=description.force)
    return manifest, comparison


def _open_input(graph: onnx.ModelProto, name: str) -> None:
    """Let an initializer be given as an input; left out, it stands."""
    held = [tensor for tensor in graph.graph.initializer if tensor.name == name]
    if not held:
        raise ExportError(f"torch folded {name} into the graph; it must stay an input")
    value = numpy_helper.to_array(held[0]).astype(np.float32)
    held[0].CopyFrom(numpy_helper.from_array(value, name))
    graph.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [f"{name}_batch"]))
    onnx.checker.check_model(graph)
