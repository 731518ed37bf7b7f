"""GCFSR's checkpoints (hejingwenhejingwen/GCFSR, ``GCFSR`` and ``GCFSR_blind``): ``gcfsr_1024.pth``,
``gcfsr_blind_512.pth``.

Convolutions leave their bias to the activation after them, which is the next part of a sequence. Conditions are listed
from fine to coarse: ``condition_scale1`` weighs generated features, ``condition_scale2`` encoded ones,
``condition_shift`` convolves the latter. The stored noise is that of a StyleGAN2 from 4 x 4 on and fits no layer here;
the authors' network draws new noise in every run.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from edgegrain.papers.convert import (
    ConversionOptions,
    ConversionReport,
    Names,
    TensorFile,
    TensorMap,
    count,
    fill,
    listed,
    open_tensors,
)
from edgegrain.papers.face_sr.bundle import write_converted
from edgegrain.papers.gcfsr.network import GCFSR, GCFSRConfig
from server_decoder.weight_file import described_network

START = 16
"""Side of the coarsest features, fixed in the authors' code."""
_UNUSED = {"noises.": "of other sizes than the layers' noise, which the authors draw again in every run"}
_MADE = {"noise": "drawn from a seed: the authors draw it again in every run"}


def _names(levels: int) -> Names:
    return {
        "first.conv.weight": "conv_body_first.0.weight",
        "first.conv.bias": "conv_body_first.1.bias",
        "down.#.conv.weight": "conv_body_down.{0}.1.weight",  # 0 is a filter
        "down.#.conv.bias": "conv_body_down.{0}.2.bias",
        "constant.conv.weight": "final_conv.0.weight",
        "constant.conv.bias": "final_conv.1.bias",
        "to_codes.#.conv.weight": lambda index: f"final_down{index + 1}.1.weight",
        "to_codes.#.conv.bias": lambda index: f"final_down{index + 1}.2.bias",
        "codes.*": "final_linear.{0}",
        "modulations.#.conv.*": lambda level, end: f"condition_shift.{levels - 1 - level}.0.{end}",
        "modulations.#.encoded.*": lambda level, end: f"condition_scale2.{levels - 1 - level}.{end}",
        "modulations.#.generated.*": lambda level, end: f"condition_scale1.{levels - 1 - level}.{end}",
        "layers.#.noise_strength": lambda index: f"{listed('style_conv', index)}.weight",
        "layers.#.bias": lambda index: f"{listed('style_conv', index)}.activate.bias",
        "layers.#.conv.*": lambda index, end: f"{listed('style_conv', index)}.modulated_conv.{end}",
        "to_rgb.#.bias": lambda level: f"{listed('to_rgb', level)}.bias",
        "to_rgb.#.conv.*": lambda level, end: f"{listed('to_rgb', level)}.modulated_conv.{end}",
    }


def load_gcfsr_checkpoint(path: Path) -> tuple[GCFSR, TensorMap]:
    """The network of a checkpoint; its sizes, and whether it is the blind form, follow from the tensors."""
    source = open_tensors(path, ("params_ema.", "params.", "state_dict."))
    config = _config(source)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = described_network(path, lambda: GCFSR(config))
    tensor_map = fill(network, source, _names(len(config.levels)), unused=_UNUSED, made=_MADE)
    return network.eval(), tensor_map


def _config(source: TensorFile) -> GCFSRConfig:
    size = START << source.count("conv_body_down.{}.")
    finest = source.dimension("conv_body_first.0.weight", 0)
    coarsest = source.dimension("final_conv.0.weight", 0)
    last = source.dimension("final_down2.1.weight", 0)
    widest = source.dimension("final_down1.1.weight", 0)
    with source.reading("GCFSR"):
        # The codes come from half of the widest layers' channels, in the blind form from all of them.
        return GCFSRConfig(size, START, size * finest, max(coarsest, widest),
                           source.dimension("style_conv1.modulated_conv.modulation.weight", 1), last,
                           blind=last == widest, signed=True, rounded=True)


def convert(source: str, files: Sequence[Path], out: Path, options: ConversionOptions) -> ConversionReport:
    """Write the bundle of a checkpoint."""
    network, tensor_map = load_gcfsr_checkpoint(files[0])
    comparison = write_converted(network, tensor_map, out, options)
    return ConversionReport(source, str(out), {"network": count(network)}, [tensor_map], comparison)
