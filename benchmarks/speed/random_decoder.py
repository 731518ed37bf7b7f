"""Decoders of GRAIN with random weights: for trying an export and measuring its cost."""

import torch

from codec_contract.errors import ExportError
from edge_encoder.twin import box_network
from export.decoder.export import DecoderSource
from server_decoder.grain.grain import PRESETS, Grain, GrainConfig
from server_decoder.grain.rrdb_decoder import INITIAL_RESIDUAL, initialize


def random_decoder(name: str, seed: int = 0) -> DecoderSource:
    """A configuration with random weights, none of them zero."""
    if name not in PRESETS:
        raise ExportError(f"unknown configuration {name!r}; expected one of {', '.join(PRESETS)}")
    config = PRESETS[name]
    return DecoderSource(name, random_grain(config, seed), box_network(config.decoder.hr, config.decoder.lr))


def random_grain(config: GrainConfig, seed: int = 0) -> Grain:
    """A model with random weights, none of them zero, in evaluation mode."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = Grain(config)
        if model.fusion is not None:  # zero in a new model
            initialize(model.fusion.to_rgb)
            model.fusion.to_rgb.weight.mul_(INITIAL_RESIDUAL)
        for parameter in model.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))  # so that no bias is zero and no two tensors are equal
    return model.eval()
