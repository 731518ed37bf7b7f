"""Enlargers as ONNX graphs that make restored pictures 2 or 4 times as large, compared with torch.

The signatures are those of `server_decoder.super_resolution.enlarger_session`. Large weights are stored as int8 and
the others as float16, and widened on loading; the graphs compute in float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx.utils
import torch
from torch import Tensor, nn

from codec_contract.errors import ExportError
from codec_contract.quantization import network_input, pictures_of
from codec_contract.resize import exact_resize
from edge_encoder.preprocessing import load_picture
from export.decoder.decoder_graph import decoder_graph, round_weights, store_compact
from export.decoder.pixel_ends import add_pixel_ends, rename_values
from export.proof.proof_inputs import find_pictures, smooth_pictures
from server_decoder import decoder_session
from server_decoder.super_resolution.enlarger_session import ENLARGED, FEATURES, PICTURE, VALUES, EnlargerSession
from server_decoder.super_resolution.network import SuperResolution, notch_filter
from server_decoder.super_resolution.weights import load_super_resolution, read_training

LARGEST_STEP = 1
"""Most levels by which a graph differs from torch, which sums in another order."""
NETWORK = "network."
"""Prefix of the names of the network's weights in a graph; other constants belong to the ends."""


@dataclass(frozen=True)
class ExportedEnlarger:
    """An enlarger that was exported and compared with torch.

    Attributes:
        models: ONNX files, one for each doubling.
        pictures: compared with torch.
        differing_bytes: share of the enlarged pictures' bytes that differ, by at most `LARGEST_STEP`.
    """

    models: tuple[bytes, ...]
    pictures: int
    differing_bytes: float

    def summary(self) -> str:
        """One line for people."""
        sizes = " and ".join(f"{len(model):,}" for model in self.models)
        return (f"{sizes} bytes; {1e6 * self.differing_bytes:.0f} of a million bytes differ from torch, by "
                f"{LARGEST_STEP}")


class Doublings(nn.Module):
    """The network, with three outputs of each doubling: the picture without its grid, the picture, and features."""

    def __init__(self, network: SuperResolution) -> None:
        super().__init__()
        self.network = network

    def forward(self, picture: Tensor) -> tuple[Tensor, ...]:
        steps = self.network.forward_steps(picture)
        outputs = [output for step in steps for output in (notch_filter(step.picture), *step)]
        return tuple(outputs[:-2])  # nothing reads the last values and features


def export_enlarger(source: Path, side: int) -> ExportedEnlarger:
    """Export a trained network for the factors that it was trained for, and compare the graphs with torch.

    Args:
        source: ``super_resolution.safetensors``, or the folder of a run with it.
        side: of the restored pictures, S.

    Raises:
        ModelError: ``source`` holds no such network, or one without the factor of its recipe.
        ExportError: the network was trained for pictures of another side, torch cannot express it in ONNX, a weight is
            too large for float16, or the graphs differ from torch.
    """
    network, training = load_super_resolution(source), read_training(source).get("config", {})
    if training.get("size", side) != side:
        raise ExportError(f"{source} was trained on pictures of {training['size']}x{training['size']}, the bundle "
                          f"restores {side}x{side}")
    part = up_to_factor(network, training.get("factor", network.config.factors[-1]))
    round_weights(part, compact=True)
    return compare_enlarger(enlarger_graphs(part, side), part, compared_pictures(side))


def up_to_factor(network: SuperResolution, factor: int) -> SuperResolution:
    """A copy of the network without the weights that only a larger factor needs.

    Raises:
        ModelError: the network has no such factor.
    """
    network.require_factor(factor)
    part = SuperResolution(network.config.cut(network.config.factors.index(factor) + 1))
    kept = part.state_dict().keys()
    part.load_state_dict({name: tensor for name, tensor in network.state_dict().items() if name in kept})
    return part.eval()


def enlarger_graphs(network: SuperResolution, side: int) -> tuple[bytes, ...]:
    """The ONNX files of a network, one for each doubling, for pictures of this side.

    Raises:
        ExportError: torch cannot express the network in ONNX, or a weight is too large for float16.
    """
    steps = range(len(network.config.factors))
    pictures, values, features = ([f"{name}.{step}" for step in steps] for name in (ENLARGED, VALUES, FEATURES))
    outputs = [name for names in zip(pictures, values, features, strict=True) for name in names][:-2]
    whole = store_compact(decoder_graph(Doublings(network), side, outputs))
    add_pixel_ends(whole, pictures)
    files = []
    for step in steps:
        inputs = {decoder_session.INPUT: PICTURE} if step == 0 else {
            values[step - 1]: VALUES, features[step - 1]: FEATURES}
        results = {pictures[step]: ENLARGED}
        if step < steps[-1]:
            results |= {values[step]: VALUES, features[step]: FEATURES}
        part = onnx.utils.Extractor(whole).extract_model(list(inputs), list(results))
        rename_values(part, inputs | results)
        onnx.checker.check_model(part)
        files.append(bytes(part.SerializeToString()))
    return tuple(files)


def compare_enlarger(models: tuple[bytes, ...], network: SuperResolution, pictures: np.ndarray) -> ExportedEnlarger:
    """Compare graphs with torch on ``pictures``, uint8 ``[N, S, S, 3]``.

    Raises:
        ExportError: a byte differs by more than `LARGEST_STEP`.
    """
    session = EnlargerSession(models, pictures.shape[1])
    differing = total = 0
    for picture in pictures:
        with torch.no_grad():
            steps = network.forward_steps(torch.from_numpy(network_input(picture[None])))
        for factor, enlarged in zip(session.factors, steps, strict=True):
            wanted = pictures_of(notch_filter(enlarged.picture).numpy())
            difference = np.abs(session.enlarge(picture[None], factor).astype(np.int16) - wanted)
            if difference.max() > LARGEST_STEP:
                raise ExportError(f"an enlarged picture differs from torch's by {difference.max()} levels, more than "
                                  f"{LARGEST_STEP}")
            differing, total = differing + int((difference > 0).sum()), total + difference.size
    return ExportedEnlarger(models, len(pictures), differing / total)


def compared_pictures(side: int) -> np.ndarray:
    """uint8 ``[N, side, side, 3]``: the pictures that ship with edgegrain, smooth colours, and noise."""
    shipped = [exact_resize(load_picture(path), (side, side)) for path in find_pictures()]
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    return np.stack([*shipped, *smooth_pictures(1, side), noise])
