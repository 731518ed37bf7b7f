"""Growing a trained GCFSR: a wider one that begins with the same pictures."""

from __future__ import annotations

from dataclasses import replace

import torch

from codec_contract.errors import ModelError
from edgegrain.papers.gcfsr.network import GCFSR


@torch.no_grad()
def grow(network: GCFSR, trained: GCFSR) -> None:
    """Give ``network`` the weights of ``trained``, so that both restore the same pictures.

    Further channels come after those of ``trained``. They keep their random weights, but the channels of ``trained`` do
    not read them at first: these weights begin at 0 and are learned.

    Args:
        network: new, with `GCFSRConfig.channel_base` or `GCFSRConfig.channel_max` at least as large.
        trained: otherwise of the same configuration.

    Raises:
        ModelError: ``trained`` is wider, or differs in other fields.
    """
    wide, narrow = network.config, trained.config
    same = replace(narrow, channel_base=wide.channel_base, channel_max=wide.channel_max) == wide
    if not same or any(wide.channels(side) < narrow.channels(side) for side in wide.levels):
        raise ModelError(f"the network to begin with must be narrower than the recipe's and otherwise equal: it is "
                         f"{narrow}, the recipe has {wide}")
    state = network.state_dict()
    for name, weights in trained.state_dict().items():
        layer, _, kind = name.rpartition(".")
        if kind == "weight":
            outputs, inputs = weights.shape[:2]
            state[name][:outputs, inputs:] = 0
            weights = weights * (_scale(trained, layer) / _scale(network, layer))
        state[name][tuple(slice(length) for length in weights.shape)] = weights
    network.load_state_dict(state)


def _scale(network: GCFSR, layer: str) -> float:
    """Factor on a layer's weights when they are used: equalized learning rates make it depend on the inputs' number."""
    return float(network.get_submodule(layer).scale)  # type: ignore[arg-type]  # torch's stubs have no such attribute
