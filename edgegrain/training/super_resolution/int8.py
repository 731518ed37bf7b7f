"""The form of an enlarger in int8: a smaller network, trained on what a bundle's decoder in int8 restores.

It begins with the weights of the bundle's enlarger, whose pictures it approaches. Both doublings end in sub-pixel
convolutions (Shi et al. 2016, "Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel
Convolutional Neural Network"): no features are computed at 4S, and at 2S only those for factor 4.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import onnx.compose
import onnx.shape_inference
import onnx.utils
import torch
import torch.nn.functional as F
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
from export.bundle.enlarger import EnlargerFiles, find_enlarger, write_enlarger
from export.decoder.graph import decoder_graph, from_levels, rename_values, to_levels
from export.decoder.int8 import for_onnx_runtime, int8_decoder
from server_decoder import decoder_session
from server_decoder.decoder_session import DecoderSession
from server_decoder.enlarger_session import ENLARGED, FEATURES, PICTURE, VALUES, EnlargerSession
from server_decoder.grain.rrdb_decoder import INITIAL_RESIDUAL, NEGATIVE_SLOPE
from server_decoder.super_resolution import SuperResolution, coordinates, doubled, notch_filter

CALIBRATED, TUNED = 6, 256
"""Restored pictures that ranges of values are measured on, and those that the form is tuned on, in 2 GB of memory."""
FITTED = 4  # of the pixels of a calibration picture, one in so many
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

    def tune(made: bytes) -> bytes:
        model = RoundedDecoder(onnx.load_model_from_string(made), enlarges=True)

        def draw(rng: np.random.Generator) -> list[list[Tensor]]:
            return enlarged_windows(rng, model, restored, wanted, originals)

        train_rounded(model, draw, seconds, lpips, show, rate=0.8)
        return model.store(made)

    models = int8_graphs(found.network(), restored, tune)
    licence = target.licence.get("enlarger")
    return write_enlarger(EnlargerFiles(found.models, found.training, "", licence, models), target)


def enlarged_windows(
    rng: np.random.Generator, model: RoundedDecoder, restored: Rgb, wanted: Sequence[Rgb], originals: Sequence[Rgb]
) -> list[list[Tensor]]:
    """A window of a square, enlarged by 2 and by 4: by the model, by the float32 enlarger, and the original's, if that
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


def int8_graphs(
    network: SuperResolution, restored: Rgb, tune: Callable[[bytes], bytes] | None = None
) -> tuple[bytes, ...]:
    """The ONNX files of a network in int8, calibrated on squares that a decoder restored, uint8 ``[N, S, S, 3]``."""
    steps = range(len(network.config.factors))
    names = [f"{part}.{step}" for step in steps for part in (VALUES, FEATURES)][:-1]
    student = Student(network)
    student.fit_heads(network, torch.from_numpy(network_input(restored[:CALIBRATED])))
    exact = decoder_graph(student, restored.shape[1], names).SerializeToString()
    made = int8_decoder(exact, restored[:CALIBRATED], enlarges=True).int8
    body = for_onnx_runtime(tune(made) if tune else made)
    return _with_ends(onnx.load_model_from_string(body), restored.shape[1])


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


class Student(nn.Module):
    """The smaller network; values -> values and features of each doubling, but for the last features."""

    @torch.no_grad()
    def __init__(self, network: SuperResolution) -> None:
        super().__init__()
        self.coarse = cast(Any, copy.deepcopy(network.coarse))
        for level in range(len(self.coarse.up))[:2]:
            self.coarse.up[level] = self.coarse.up[level][:-1]
        # The first convolution takes picture and coordinates together, and half a level more than values: integers.
        old, place, half = self.coarse.first, self.coarse.place, 0.5 / HALF_RANGE
        self.widen, self.first = nn.Conv2d(3, 5, 1), nn.Conv2d(5, old.out_channels, 3, padding=1)
        _set(self.widen, torch.eye(5, 3), torch.tensor([half, half, half, 0, 0]))
        _set(self.first, torch.cat([old.weight, place.weight], 1), old.bias - half * old.weight.sum((1, 2, 3)))
        self.grow = cast(Any, copy.deepcopy(network.fine[0]))
        self.grow.blocks.append(copy.deepcopy(self.grow.blocks[-1]))
        self.grow.blocks[-1].conv2.weight.mul_(INITIAL_RESIDUAL)
        self.grow.blocks[-1].conv2.bias.zero_()
        widths = (network.config.widths[0], *network.config.fine_widths)[: len(network.fine)]
        self.heads = nn.ModuleList(nn.Conv2d(width, 12, 3, padding=1) for width in widths)

    def forward(self, picture: Tensor) -> tuple[Tensor, ...]:
        features, results = self.first_features(picture), list[Tensor]()
        for level, head in enumerate(self.heads):
            if level:
                features = self.grown(features)
            picture = doubled(picture) + F.pixel_shuffle(head(features), 2)
            results += picture, features
        return tuple(results[:-1])

    def first_features(self, picture: Tensor) -> Tensor:
        """Features at S."""
        place = torch.cat([torch.zeros(1, 3, *picture.shape[-2:]), coordinates(picture)], 1)
        return cast(Tensor, self.coarse.scales(F.leaky_relu(self.first(self.widen(picture) + place), NEGATIVE_SLOPE)))

    def grown(self, features: Tensor) -> Tensor:
        """Features at 2S."""
        mixed: Tensor = self.grow.mix(doubled(self.grow.narrow(features)))
        return cast(Tensor, self.grow.blocks(F.leaky_relu(mixed, NEGATIVE_SLOPE)))

    @torch.no_grad()
    def fit_heads(self, network: SuperResolution, pictures: Tensor) -> None:
        """Set the last convolutions to the least squared distance from what the network makes of pictures."""
        for level, head in enumerate(self.heads):
            total = fitted = torch.zeros(())
            for picture in pictures.split(1):
                features, below = self.first_features(picture), picture
                steps = network.forward_steps(picture)
                if level:
                    features, below = self.grown(features), steps[0].picture
                wanted = F.pixel_unshuffle(steps[level].picture - doubled(below), 2)[0].flatten(1)[:, ::FITTED]
                taken = F.unfold(features, 3, padding=1)[0, :, ::FITTED]
                taken = torch.cat([taken, torch.ones_like(taken[:1])]).double()
                total, fitted = total + taken @ taken.T, fitted + taken @ wanted.double().T
            total = total + 1e-6 * total.trace() / len(total) * torch.eye(len(total))
            found = torch.linalg.solve(total, fitted).T.float()
            _set(head, found[:, :-1], found[:, -1])


def _set(convolution: Any, weight: Tensor, bias: Tensor) -> None:
    convolution.weight.copy_(weight.reshape(convolution.weight.shape))
    convolution.bias.copy_(bias)


class _Begin(nn.Module):
    def forward(self, picture: Tensor) -> Tensor:
        return from_levels(picture)


class _End(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return to_levels(notch_filter(values))
