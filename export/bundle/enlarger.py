"""Adding enlargers to a bundle: ONNX graphs that make its restored pictures 2 or 4 times as large.

A graph takes ``picture`` uint8 ``[batch, S, S, 3]`` and gives ``enlarged`` uint8 ``[batch, kS, kS, 3]``. Its weights
are stored as float16 and widened on loading; it computes in float32.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch

from codec_contract.bundle.manifest import Manifest
from codec_contract.errors import ExistsError, ExportError
from codec_contract.quantization import dequantize, quantize
from codec_contract.resize import exact_resize
from edge_encoder.preprocessing import load_picture
from export.bundle.additions import add_files, manifest_record, writable_bundle
from export.decoder.decoder_graph import decoder_graph, round_weights, store_half
from export.decoder.pixel_ends import add_pixel_ends
from export.decoder.value_names import rename_values
from export.proof.proof_inputs import find_pictures, smooth_pictures
from server_decoder import decoder_session
from server_decoder.super_resolution.enlarger_session import INPUT, OUTPUT
from server_decoder.super_resolution.network import SuperResolution
from server_decoder.super_resolution.weights import load_super_resolution, read_training

LARGEST_STEP = 1
"""Most levels by which a graph differs from torch, which sums in another order."""


@dataclass(frozen=True)
class ExportedEnlarger:
    """An enlarger that was exported and compared with torch.

    Attributes:
        factor: 2 or 4.
        model: the ONNX file.
        pictures: compared with torch.
        differing_bytes: share of the enlarged pictures' bytes that differ, by at most `LARGEST_STEP`.
    """

    factor: int
    model: bytes
    pictures: int
    differing_bytes: float

    @property
    def file(self) -> str:
        """Its name in a bundle that has none of this factor yet."""
        return f"enlarger_x{self.factor}.onnx"

    def summary(self) -> str:
        """One line for people."""
        return (f"{len(self.model):,} bytes; {1e6 * self.differing_bytes:.0f} of a million bytes differ from torch, by "
                f"{LARGEST_STEP}")


def trained_factors(source: Path) -> tuple[int, ...]:
    """The factors that a network was trained for: up to that of its recipe.

    Raises:
        ModelError: ``source`` holds no such network.
    """
    most = read_training(source).get("config", {}).get("factor")
    return tuple(factor for factor in load_super_resolution(source).config.factors if most is None or factor <= most)


def export_enlargers(source: Path, side: int, factors: Sequence[int]) -> list[ExportedEnlarger]:
    """Export a trained network, one graph per factor, and compare each with torch.

    Args:
        source: ``super_resolution.safetensors``, or the folder of a run with it.
        side: of the restored pictures, S.
        factors: to export.

    Raises:
        ModelError: ``source`` holds no such network, or the network has no such factor.
        ExportError: the network was trained for pictures of another side, torch cannot express it in ONNX, or a graph
            differs from torch.
    """
    network, training = load_super_resolution(source), read_training(source).get("config", {})
    if training.get("size", side) != side:
        raise ExportError(f"{source} was trained on pictures of {training['size']}x{training['size']}, the bundle "
                          f"restores {side}x{side}")
    return [export_enlarger(network, side, factor) for factor in factors]


def export_enlarger(network: SuperResolution, side: int, factor: int) -> ExportedEnlarger:
    """Export one factor of a network and compare the graph with torch on pictures of this side.

    Raises:
        ModelError, ExportError: as `export_enlargers`.
    """
    part = with_factor(network, factor)
    round_weights(part, compact=False)
    model = enlarger_graph(part, side)
    return compare_enlarger(model, part, factor, compared_pictures(side))


def with_factor(network: SuperResolution, factor: int) -> SuperResolution:
    """A copy of the network for this factor by default, without the weights that only a larger one needs."""
    network.require_factor(factor)
    levels = network.config.factors.index(factor) + 1
    part = SuperResolution(replace(network.config, fine_widths=network.config.fine_widths[:levels],
                                   fine_blocks=network.config.fine_blocks[:levels]))
    kept = part.state_dict().keys()
    part.load_state_dict({name: tensor for name, tensor in network.state_dict().items() if name in kept})
    return part.eval()


def enlarger_graph(network: SuperResolution, side: int) -> bytes:
    """The ONNX file of a network at its largest factor, for pictures of this side.

    Raises:
        ExportError: torch cannot express the network in ONNX, or a weight is too large for float16.
    """
    graph = store_half(decoder_graph(network, side))
    add_pixel_ends(graph)
    rename_values(graph, {decoder_session.INPUT: INPUT, decoder_session.OUTPUT: OUTPUT})
    onnx.checker.check_model(graph)
    return bytes(graph.SerializeToString())


def compare_enlarger(model: bytes, network: SuperResolution, factor: int, pictures: np.ndarray) -> ExportedEnlarger:
    """Compare a graph with torch on ``pictures``, uint8 ``[N, S, S, 3]``.

    Raises:
        ExportError: a byte differs by more than `LARGEST_STEP`.
    """
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    differing = 0
    for picture in pictures:
        values = torch.from_numpy(dequantize(picture.astype(np.float32))).permute(2, 0, 1)[None]
        with torch.no_grad():
            wanted = quantize(network(values, factor)[0].permute(1, 2, 0).numpy())
        found = session.run([OUTPUT], {INPUT: picture[None]})[0][0]
        if found.shape != wanted.shape:
            raise ExportError(f"the exported enlarger gives {found.shape}, torch {wanted.shape}")
        steps = np.abs(found.astype(np.int16) - wanted)
        if steps.max() > LARGEST_STEP:
            raise ExportError(f"an enlarged picture differs from torch's by {steps.max()} levels, more than "
                              f"{LARGEST_STEP}")
        differing += int((steps > 0).sum())
    return ExportedEnlarger(factor, model, len(pictures), differing / (len(pictures) * factor**2 * pictures[0].size))


def compared_pictures(side: int) -> np.ndarray:
    """uint8 ``[N, side, side, 3]``: the pictures that ship with edgegrain, smooth colours, and noise."""
    shipped = [exact_resize(load_picture(path), (side, side)) for path in find_pictures()]
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    return np.stack([*shipped, *smooth_pictures(1, side), noise])


def require_enlargeable(bundle: str, factors: Sequence[int], *, force: bool = False) -> Manifest:
    """The manifest of the bundle that enlargers will be written into; called before work that takes time.

    Args:
        bundle: name or folder.
        factors: of the enlargers.
        force: replace those that the bundle has.

    Raises:
        ExportError: the bundle restores tiles, or its folder is read-only, or in the cache of the Hugging Face Hub.
        ExistsError: the bundle has such an enlarger, and ``force`` is false.
        BundleError: there is no such bundle, or its manifest is wrong.
    """
    target = writable_bundle(bundle)
    if target.tile_overlap is not None:
        raise ExportError(f"bundle {target.id} restores pictures of any size in tiles; enlargers take whole squares")
    for entry in manifest_record(target).get("enlargers", []):
        if entry["factor"] in factors and not force:
            raise ExistsError(target.folder / entry["file"])
    return target


def write_enlargers(enlargers: Sequence[ExportedEnlarger], target: Manifest, training: dict[str, Any]) -> Manifest:
    """Write enlargers into a bundle, in place of earlier ones of the same factors. Its LR contract stays.

    Args:
        enlargers: to write.
        target: from `require_enlargeable`.
        training: how they were trained, for the manifest; plain JSON values.

    Raises:
        OSError: the folder cannot be written.
    """
    record = manifest_record(target)
    entries = {entry["factor"]: entry for entry in record.get("enlargers", [])}
    files: dict[str, bytes] = {}
    replaced = []
    for enlarger in enlargers:
        digest = hashlib.sha256(enlarger.model).hexdigest()
        name, earlier = enlarger.file, entries.get(enlarger.factor)
        if record["files"].get(name, {"sha256": digest})["sha256"] != digest:
            # The earlier file is valid until the manifest names the new one.
            name = f"enlarger_x{enlarger.factor}-{digest[:8]}.onnx"
        if earlier is not None:
            replaced.append(earlier["file"])
        entries[enlarger.factor] = {"factor": enlarger.factor, "file": name, "training": training}
        files[name] = enlarger.model
    record["enlargers"] = [entries[factor] for factor in sorted(entries)]
    return add_files(target, record, files, replaced)
