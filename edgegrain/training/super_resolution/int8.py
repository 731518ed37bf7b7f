"""The form of an enlarger in int8, for what a bundle's decoder in int8 restores, and the tuning of both forms.

They have the same weights. A step computes one of them, drawn by chance, and compares its pictures with those of the
enlarger as it was and with originals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.compose
import onnx.shape_inference
import onnx.utils
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import Tensor, nn

from codec_contract.bundle.manifest import (
    DEFAULT_FORM,
    ENCODER_ONNX,
    ENLARGEMENTS,
    INT8_FORM,
    decoder_forms,
    load_manifest,
)
from codec_contract.fit import fit_picture
from codec_contract.pixels import HALF_RANGE, Rgb, network_input
from edge_encoder.encoder_session import EncoderSession
from edge_encoder.preprocessing import load_picture
from edgegrain.pictures.stored_pictures import list_pictures
from edgegrain.pictures.writing import Progress
from edgegrain.training.distributed import mixed_precision
from edgegrain.training.int8 import Distance, RoundedDecoder, train_rounded
from export.bundle.enlarger import (
    EnlargerFiles,
    compare_enlarger,
    compared_pictures,
    enlarger_graphs,
    find_enlarger,
    write_enlarger,
)
from export.decoder.graph import decoder_graph, from_levels, rename_values, to_levels
from export.decoder.int8 import Int8Decoder, for_onnx_runtime, int8_decoder, refer
from server_decoder import decoder_session
from server_decoder.decoder_session import DecoderSession
from server_decoder.enlarger_session import ENLARGED, FEATURES, FLOAT32_FILES, PICTURE, VALUES, EnlargerSession
from server_decoder.grain.rrdb_decoder import NEGATIVE_SLOPE
from server_decoder.super_resolution import SuperResolution, coordinates, notch_filter

CALIBRATED, TUNED = 6, 256
"""Restored pictures that ranges of values are measured on, and those that the form is tuned on, in 2 GB of memory."""
WINDOW, MARGIN = 144, 8
"""Side of the part that is enlarged while training, and what the padding of its edges reaches, in pixels of S."""


def add_int8_form(folder: Path, data: Path, seconds: float, lpips: Distance, show: Progress) -> list[Path]:
    """Add the form in int8 to the enlarger of a bundle, trained for ``seconds`` on a folder of pictures; those as large
    as enlarged ones are also compared with what is made of them."""
    target = load_manifest(folder)
    found, forms = find_enlarger(folder), decoder_forms(target)
    default, int8 = (forms[name].file for name in (DEFAULT_FORM, INT8_FORM))
    held, encoder = target.open_file(default), EncoderSession(target.open_file(ENCODER_ONNX))
    exact, near = DecoderSession(held), DecoderSession(target.open_file(int8), weights=(default, held))
    session, paths = EnlargerSession(found.models, target.hr), list_pictures(data)
    originals = [load_picture(path) for path in paths[:: 1 + (len(paths) - 1) // TUNED]]
    lrs = [encoder.encode(fit_picture(original, target.hr, "crop")[None]) for original in originals]
    restored, squares = (np.concatenate([decoder.decode(lr) for lr in lrs]) for decoder in (near, exact))
    wanted = [session.enlarge(squares, factor) for factor in session.factors]
    network = found.network()
    graph = int8_graph(network, restored)
    model = RoundedDecoder(onnx.load_model_from_string(graph.int8), enlarges=True)

    def draw(rng: np.random.Generator) -> list[list[Tensor]]:
        model.rounds = bool(rng.integers(2))
        return enlarged_windows(rng, model, restored if model.rounds else squares, wanted, originals)

    train_rounded(model, draw, seconds, lpips, show, rate=0.8)
    graph = graph._replace(int8=model.store(graph.int8))
    take_weights(network, graph)
    models = enlarger_graphs(network, target.hr, graph.gains)
    compare_enlarger(models, replace(found, models=models).network(), compared_pictures(target.hr))
    form, made = int8_files(graph, models, target.hr), f"tuned for {seconds:.0f} s on {len(originals)} pictures"
    EnlargerSession(form, target.hr, weights=models)  # it loads
    training = {**found.training, "derived": made}
    return write_enlarger(EnlargerFiles(models, training, "", target.licence.get("enlarger"), form), target)


def enlarged_windows(
    rng: np.random.Generator, model: RoundedDecoder, restored: Rgb, wanted: Sequence[Rgb], originals: Sequence[Rgb]
) -> list[list[Tensor]]:
    """A window of a square, enlarged by 2 and by 4: by the model, by the enlarger as it was, and the original's if it
    is as large."""
    index, side = int(rng.integers(len(restored))), restored.shape[1]
    y, x = rng.integers(0, side - WINDOW + 1, 2).tolist()

    def values(picture: Rgb) -> Tensor:
        # Channels-last convolutions in bfloat16 take half the time.
        return torch.from_numpy(network_input(picture[None])).contiguous(memory_format=torch.channels_last)

    square = values(restored[index])
    with mixed_precision(square.device):
        pictures = model(square, (slice(y, y + WINDOW), slice(x, x + WINDOW)), side)[::2]  # without features
    batch = []
    for factor, picture, large in zip(ENLARGEMENTS, pictures, wanted, strict=False):
        parts = [picture]
        others = [large[index]]
        if min(originals[index].shape[:2]) >= factor * side:
            others.append(fit_picture(originals[index], factor * side, "crop"))
        top, left, size, margin = (factor * length for length in (y, x, WINDOW, MARGIN))
        parts += [values(other)[..., top : top + size, left : left + size] for other in others]
        batch.append([part[..., margin:-margin, margin:-margin] for part in parts])
    return batch


def int8_graph(network: SuperResolution, restored: Rgb) -> Int8Decoder:
    """The graph of a network in int8, values to values and features, calibrated on squares that a decoder restored,
    uint8 ``[N, S, S, 3]``."""
    names = [f"{part}.{step}" for step in range(len(network.config.factors)) for part in (VALUES, FEATURES)][:-1]
    exact = decoder_graph(_OnIntegers(network), restored.shape[1], names).SerializeToString()
    return int8_decoder(exact, restored[:CALIBRATED], enlarges=True)


@torch.no_grad()
def take_weights(network: SuperResolution, graph: Int8Decoder) -> None:
    """Give a network the weights of its graph in int8."""
    model = onnx.load_model_from_string(graph.int8)
    held = {item.name: torch.from_numpy(numpy_helper.to_array(item).copy()) for item in model.graph.initializer}
    widened = [node for node in model.graph.node if node.op_type == "DequantizeLinear"]
    stored = {node.output[0]: node.input[:2] for node in widened if node.input[0] in held}
    integers = _OnIntegers(network)
    parameters = dict(integers.named_parameters())
    for node in model.graph.node:
        if node.op_type == "Conv" and node.input[1] in stored:
            weight, bias = (
                held[levels] * held[step].reshape(-1, *[1] * (held[levels].dim() - 1))
                for levels, step in (stored[name] for name in node.input[1:])
            )
            names = [name.removesuffix(".near") for name in node.input[1:]]
            made, taken = map(torch.as_tensor, graph.gains[names[0]])
            count = len(made)  # there may be more, of zeros
            parameters[names[0]].copy_(weight[:count] * taken[:, None, None] / made[:, None, None, None])
            parameters[names[1]].copy_(bias[:count] / made)
    integers.split()


def int8_files(graph: Int8Decoder, float32: Sequence[bytes], side: int) -> tuple[bytes, ...]:
    """The ONNX files of a graph in int8, which refer to those in float32."""
    files = _with_ends(onnx.load_model_from_string(for_onnx_runtime(graph.int8)), side)
    return tuple(refer(*parts) for parts in zip(files, FLOAT32_FILES[: len(files)], float32, strict=True))


def _with_ends(body: onnx.ModelProto, side: int) -> tuple[bytes, ...]:
    """The files of a graph in int8 that takes and makes values."""
    outputs, files, taken = [output.name for output in body.graph.output], [], [decoder_session.INPUT]
    parts = onnx.utils.Extractor(onnx.shape_inference.infer_shapes(body))
    for step, made in enumerate([outputs[:2], outputs[2:]] if len(outputs) > 1 else [outputs]):
        # Features are handed over as they are after rounding, which the next graph repeats.
        handed = [made[0], f"{made[1]}.near"] if len(made) > 1 else []
        part = parts.extract_model(taken, handed or made)
        end = onnx.compose.add_prefix(decoder_graph(_End(), side << step + 1, [ENLARGED]), "end.")
        joint = (made[0], f"end.{decoder_session.INPUT}")
        part = onnx.compose.merge_models(part, end, [joint], outputs=[f"end.{ENLARGED}", *handed])
        names = {f"end.{ENLARGED}": ENLARGED, **dict(zip(handed, (VALUES, FEATURES), strict=False))}
        if step == 0:
            begin = onnx.compose.add_prefix(decoder_graph(_Begin(), side, [VALUES], levels=True), "begin.")
            part = onnx.compose.merge_models(begin, part, [(f"begin.{VALUES}", taken[0])])
            taken = [f"begin.{decoder_session.INPUT}"]
        rename_values(part, names | dict(zip(taken, (VALUES, FEATURES) if step else (PICTURE,), strict=True)))
        onnx.checker.check_model(part)
        files.append(bytes(part.SerializeToString()))
        taken = made
    return tuple(files)


class _OnIntegers(nn.Module):
    """A network whose first convolution takes picture and coordinates together, and half a level more than values:
    integers."""

    @torch.no_grad()
    def __init__(self, network: SuperResolution) -> None:
        super().__init__()
        self.network = network
        coarse: Any = network.coarse
        half, weight = 0.5 / HALF_RANGE, torch.cat([coarse.first.weight, coarse.place.weight], 1)
        widen: Any = nn.Conv2d(3, 5, 1)
        first: Any = nn.Conv2d(5, len(weight), 3, padding=1)
        widen.weight.copy_(torch.eye(5, 3)[..., None, None])
        widen.bias.copy_(torch.tensor([half, half, half, 0, 0]))
        first.weight.copy_(weight)
        first.bias.copy_(coarse.first.bias - half * coarse.first.weight.sum((1, 2, 3)))
        self.widen, self.first = widen, first

    def split(self) -> None:
        """Give the network the first convolution's weights."""
        coarse: Any = self.network.coarse
        coarse.first.weight.copy_(self.first.weight[:, :3])
        coarse.place.weight.copy_(self.first.weight[:, 3:])
        coarse.first.bias.copy_(self.first.bias + 0.5 / HALF_RANGE * coarse.first.weight.sum((1, 2, 3)))

    def forward(self, picture: Tensor) -> tuple[Tensor, ...]:
        place = torch.cat([torch.zeros(1, 3, *picture.shape[-2:]), coordinates(picture)], 1)
        features = self.network.coarse.scales(F.leaky_relu(self.first(self.widen(picture) + place), NEGATIVE_SLOPE))
        steps = self.network.enlarge(features, picture, len(self.network.config.factors))
        return tuple(part for step in steps for part in step)[:-1]


class _Begin(nn.Module):
    def forward(self, picture: Tensor) -> Tensor:
        return from_levels(picture)


class _End(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return to_levels(notch_filter(values))
