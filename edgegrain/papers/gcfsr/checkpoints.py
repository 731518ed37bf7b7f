"""GCFSR's checkpoints (hejingwenhejingwen/GCFSR, ``GCFSR`` and ``GCFSR_blind``): ``gcfsr_1024.pth``,
``gcfsr_blind_512.pth``.

Convolutions leave their bias to the activation after them, which is the next part of a sequence. Conditions are listed
from fine to coarse: ``condition_scale1`` weighs generated features, ``condition_scale2`` encoded ones,
``condition_shift`` convolves the latter. The stored noise is that of a StyleGAN2 from 4 x 4 on and fits no layer here;
the authors' network draws new noise in every run.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch

from codec_contract.errors import ModelError
from edgegrain.papers.gcfsr.network import GCFSR, GCFSRConfig
from edgegrain.papers.tensor_map import TensorFile, TensorMap, file_sha256, fill, open_tensors, place

START = 16
"""Side of the coarsest features, fixed in the authors' code."""
_CONVOLUTION = {"weight": 0, "bias": 1}  # index in a sequence of convolution and activation
_MODULATION = {"encoded": "condition_scale2", "generated": "condition_scale1"}
_LAYER = {"noise_strength": "weight", "bias": "activate.bias"}
_UNUSED = {"noises.": "of other sizes than the layers' noise, which the authors draw again in every run"}
_DRAWN = "drawn from a seed: the authors draw it again in every run"


def load_gcfsr_checkpoint(path: Path, *, seed: int = 0) -> tuple[GCFSR, TensorMap]:
    """The network of a checkpoint; its sizes, and whether it is the blind form, follow from the tensors.

    Args:
        path: of the file.
        seed: of the constant noise.
    """
    source = open_tensors(path, ("params_ema.", "params.", "state_dict."))
    config = _config(source)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = GCFSR(config)
    placed = place(source, network.state_dict(), lambda ours: _theirs(ours, len(config.levels)), unused=_UNUSED)
    fill(network, placed.state)
    made = {name: _DRAWN for name in network.state_dict() if name not in placed.state}
    unused = {**source.unused, **placed.unused}
    return network.eval(), TensorMap(path.name, file_sha256(path), placed.names, unused, made)


def _config(source: TensorFile) -> GCFSRConfig:
    size = START << source.count("conv_body_down.{}.")
    finest = source.dimension("conv_body_first.0.weight", 0)
    coarsest = source.dimension("final_conv.0.weight", 0)
    last = source.dimension("final_down2.1.weight", 0)
    widest = source.dimension("final_down1.1.weight", 0)
    try:
        # The codes come from half of the widest layers' channels, in the blind form from all of them.
        return GCFSRConfig(size, START, size * finest, max(coarsest, widest),
                           source.dimension("style_conv1.modulated_conv.modulation.weight", 1), last,
                           blind=last == widest, signed=True, rounded=True)
    except ValueError as error:
        raise ModelError(f"{source.path} is no GCFSR: {error}") from error


def _theirs(ours: str, levels: int) -> str | None:
    part, *rest = ours.split(".")
    ending = rest[-1]
    match part, rest:
        case "first", _:
            return f"conv_body_first.{_CONVOLUTION[ending]}.{ending}"
        case "constant", _:
            return f"final_conv.{_CONVOLUTION[ending]}.{ending}"
        case "down", [index, *_]:
            return f"conv_body_down.{index}.{_CONVOLUTION[ending] + 1}.{ending}"  # a filter comes first
        case "to_codes", [index, *_]:
            return f"final_down{int(index) + 1}.{_CONVOLUTION[ending] + 1}.{ending}"
        case "codes", _:
            return f"final_linear.{ending}"
        case "modulations", [level, "conv", _]:
            return f"condition_shift.{levels - 1 - int(level)}.0.{ending}"
        case "modulations", [level, weighed, _]:
            return f"{_MODULATION[weighed]}.{levels - 1 - int(level)}.{ending}"
        case "layers", [index, *inner]:
            layer = f"style_convs.{int(index) - 1}" if int(index) else "style_conv1"
            inside = ".".join(inner)
            return None if inside == "noise" else f"{layer}.{_LAYER.get(inside) or _modulated(inner)}"
        case "to_rgb", [level, *inner]:
            layer = f"to_rgbs.{int(level) - 1}" if int(level) else "to_rgb1"
            return f"{layer}.{'bias' if inner == ['bias'] else _modulated(inner)}"
    return None


def _modulated(inner: list[str]) -> str:
    """Names inside a modulated convolution: ``conv.weight``, ``conv.modulation.bias``."""
    return re.sub("^conv", "modulated_conv", ".".join(inner))
