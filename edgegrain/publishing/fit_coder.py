"""Fit the tables of the LR coder to the LRs of an encoder (``edgegrain publish coder``).

One network per channel is trained in floating point to give each sample as many bits of probability as it can, then
rounded to the integers of `CoderTables`. The tables are part of the LR contract.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from codec_contract.bundle.manifest import CODER_TABLES, ENCODER_ONNX, ENCODER_WEIGHTS, Manifest
from codec_contract.errors import BundleError, ImageError
from codec_contract.files import write_atomically
from codec_contract.lr_coder.coder import encode_lr
from codec_contract.lr_coder.coder_tables import ChannelNetwork, CoderTables, rounded, to_indices
from codec_contract.lr_coder.context import all_contexts
from codec_contract.pixels import Rgb
from edge_encoder.contract_id import lr_contract_id
from edge_encoder.encoder_session import EncoderSession
from edge_encoder.integer_network import integer_digest, load_integer_network
from edgegrain.evaluation.classical_codecs import encode_lossless
from edgegrain.pictures.stored_pictures import list_pictures, read_square
from edgegrain.pictures.writing import Progress
from edgegrain.training.grain.rate import FloatNetwork, code_length
from export.bundle.writer import change_bundle, read_record

BATCH = 4096
CALIBRATION_SAMPLES = 200_000
WIDTHS = (128, 128)
RATE_WIDTHS = (64, 64)  # of a bundle's further rates: smaller files, because there are several
STEPS = 8000
LEAST_STEPS, PASSES = 250, 50
"""Fewest steps, and passes over the samples: with more of them, LRs of few pictures are learnt by heart and others
need more bytes (experiments/2026-11.md)."""
SAMPLES = 20_000_000
"""Most samples of a channel: contexts of them all are held in memory, 1.4 GB. Of more LRs, some are drawn."""
ROUNDED_FROM = 0.7  # fraction of the steps after which weights are rounded


def steps_for(samples: int) -> int:
    """Optimizer steps for a channel of so many samples: `PASSES` over them, `LEAST_STEPS` to `STEPS`."""
    return min(STEPS, max(LEAST_STEPS, PASSES * samples // BATCH))


def fit_network(
    samples: tuple[Tensor, Tensor, Tensor],
    widths: Sequence[int],
    steps: int,
    level_step: int = 1,
    *,
    seed: int,
    report: Callable[[float], None] = lambda part: None,
) -> FloatNetwork:
    """Train and calibrate one channel's network on contexts ``[S, n]``, references ``[S]`` and levels ``[S]``."""
    context, reference, level = samples
    torch.manual_seed(seed)
    network = FloatNetwork(context.shape[1], widths, skip=False, step=level_step)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=steps)
    for step in range(steps):
        if step == min(round(ROUNDED_FROM * steps), steps - 1):
            network.calibrate(context[:: max(1, len(context) // CALIBRATION_SAMPLES)].float())
        batch = torch.randint(len(context), (BATCH,))
        prediction = network(context[batch].float())
        loss = code_length(prediction, reference[batch].float(), level[batch].float()).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        report((step + 1) / steps)
    return network


def fit_tables(
    lrs: Sequence[Rgb] | Rgb,
    widths: Sequence[int] = WIDTHS,
    steps: int | None = None,
    level_step: int = 1,
    *,
    kept: Path | None = None,
    report: Progress | None = None,
) -> CoderTables:
    """Coder tables for LRs like these, uint8 ``[N, h, w, 3]`` or a list of uint8 ``[h, w, 3]`` of any sizes.

    Widths of (128, 128) make tables of about 94 KB, (64, 64) of 31 KB, for which LRs of 16 x 16 need 1 to 2 % more
    (experiments/2026-11.md). After each channel its network is written to the file ``kept``, and a later call with the
    same arguments fits only the others.
    """
    indices = [to_indices(lr, level_step) for lr in _some(lrs)]
    steps = steps or steps_for(sum(lr.shape[0] * lr.shape[1] for lr in indices))
    key = hashlib.sha256(repr((tuple(widths), steps, 0, level_step)).encode())  # 0: as earlier versions wrote it
    for lr in indices:
        key.update(repr(lr.shape).encode() + lr.tobytes())
    networks: list[ChannelNetwork] = []
    if kept is not None and kept.is_file():  # of channels that an earlier call fitted to the same LRs
        record = json.loads(kept.read_bytes())
        if record["key"] == key.hexdigest():
            networks = list(CoderTables.from_json(record["tables"]).channels[: record["fitted"]])

    def report_channel(part: float) -> None:
        if report is not None:
            report((len(networks) + part) / 3, "fitting the coder's tables")

    for channel in range(len(networks), 3):
        samples = _samples(indices, channel)
        network = fit_network(samples, widths, steps, level_step, seed=channel, report=report_channel)
        networks.append(network.integers())
        if kept is not None:
            first, second, third = (*networks, *CoderTables.default().channels[len(networks) :])
            text = CoderTables((first, second, third), level_step).to_json().decode()
            record = {"key": key.hexdigest(), "fitted": len(networks), "tables": text}
            write_atomically(kept, json.dumps(record).encode(), force=True)
    first, second, third = networks
    return CoderTables((first, second, third), level_step)


def add_rates(
    bundle: Manifest,
    data: Path,
    steps: Sequence[int],
    *,
    finest: int | None = None,
    exclude: tuple[str, ...] = (),
    report: Progress | None = None,
) -> Manifest:
    """Give a bundle rates of these steps of the levels, ascending, in place of those beside its own.

    ``finest`` is the finest step that the decoder was trained with, at most the bundle's own; None leaves what the
    manifest says.

    The coder tables of each, ``coder_STEP.json``, are fitted to the bundle's own LRs of the pictures ``data`` and of
    their mirror images. Files that are there already are taken as they are, as an interrupted call left them.
    """
    own = CoderTables.from_json(bundle.open_file(CODER_TABLES)).step
    if finest is not None and finest > own:
        trained = f"bundle {bundle.id} has levels in steps of {own}, which its decoder was trained with"
        raise BundleError(f"{trained}; its finest step is at most that, got {finest}")
    network = load_integer_network(bundle.open_file(ENCODER_WEIGHTS))
    paths = [bundle.folder / f"coder_{step}.json" for step in steps]
    lrs: list[Rgb] = []
    if not all(path.exists() for path in paths):
        encoder, pictures = EncoderSession(bundle.open_file(ENCODER_ONNX)), list_pictures(data, exclude)
        for index, picture in enumerate(pictures, 1):
            square = read_square(picture, bundle.hr)
            lrs.extend(encoder.encode(np.stack([square, square[:, ::-1]])))
            if report is not None:
                report(index / len(pictures), "encoding pictures")
    rates = list[dict[str, Any]]()
    for step, path in zip(steps, paths, strict=True):
        if not path.exists():
            write_atomically(path, fit_tables(lrs, widths=RATE_WIDTHS, level_step=step, report=report).to_json())
        tables = CoderTables.from_json(path.read_bytes())
        contract = lr_contract_id(integer_digest(network), bundle.preprocessing, tables)
        rates.append({"file": path.name, "lr_contract_id": contract.hex(), **({"finer": True} if step < own else {})})
    record, files = {**read_record(bundle.folder), "rates": rates}, {path.name: path.read_bytes() for path in paths}
    record |= {} if finest is None else {"finest_step": finest}
    return change_bundle(bundle.folder, record, files, [rate.coder for rate in bundle.further_rates])


def load_lrs(path: Path) -> list[Rgb]:
    """LRs from a .npy file, uint8 ``[N, h, w, 3]``."""
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ImageError(f"{path} is not a .npy file of LRs ({error})") from error
    if getattr(array, "dtype", None) != np.uint8 or array.ndim != 4 or array.shape[3] != 3 or not array.size:
        raise ImageError(f"{path} must hold LRs, uint8 [N, h, w, 3]")
    return list(array)


@dataclass(frozen=True)
class CoderReport:
    """Coder tables and their result on LRs that they were not fitted to."""

    tables: CoderTables
    fitted_to: int  # LRs
    held_out: int  # LRs that were coded
    coded: float  # mean bytes of a held-out LR
    lossless: Mapping[str, float]  # classical format -> mean bytes of the same LRs, rounded to the step of their levels


def fit_and_report(
    lrs: Sequence[Rgb],
    widths: Sequence[int],
    steps: int,
    held_out: int,
    level_step: int = 1,
    report: Progress | None = None,
) -> CoderReport:
    """Fit tables to nine of ten LRs and code at most ``held_out`` of the others; see `fit_tables`."""
    if len(lrs) < 2:
        raise ImageError(f"the tables are fitted to nine of ten LRs, got {len(lrs)}; give at least 2")
    kept = [lr for index, lr in enumerate(lrs) if index % 10]
    tables = fit_tables(kept, widths, steps, level_step, report=report)
    held = [rounded(lr, level_step) for lr in lrs[::10][:held_out]]
    coded = float(np.mean([len(encode_lr(lr, tables)) for lr in held]))
    png, webp = (float(np.mean([len(encode_lossless(lr, kind)) for lr in held])) for kind in ("png", "webp"))
    return CoderReport(tables, len(kept), len(held), coded, {"optimised PNG": png, "lossless WebP": webp})


def _some(lrs: Sequence[Rgb] | Rgb) -> list[Rgb]:
    """LRs of at most `SAMPLES` pixels in all, drawn at random if there are more; at least one."""
    if sum(lr.shape[0] * lr.shape[1] for lr in lrs) <= SAMPLES:
        return list(lrs)
    order = np.random.default_rng(0).permutation(len(lrs))
    pixels = np.cumsum([lrs[index].shape[0] * lrs[index].shape[1] for index in order])
    return [lrs[index] for index in order[: max(1, int(np.searchsorted(pixels, SAMPLES, side="right")))]]


def _samples(lrs: Sequence[Rgb], channel: int) -> tuple[Tensor, Tensor, Tensor]:
    """Contexts ``[S, n]``, references ``[S]`` and levels ``[S]`` of one channel of all LRs, int16."""
    parts = []
    for lr in lrs:  # one by one: in all_contexts' own type they take twice the memory
        arrays = (*all_contexts(lr, channel), lr[..., channel].ravel())
        parts.append([array.astype(np.int16) for array in arrays])
    context, reference, level = (torch.from_numpy(np.concatenate(found)) for found in zip(*parts, strict=True))
    return context, reference, level
